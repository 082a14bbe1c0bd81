"""The embedded world: recorded incidents, replayed on loopback for the demo, a player, the tests.

`recorded.py` finds a recording, `world.py` and `tape.py` put it on a clock, `replay_kubernetes.py`
and `replay_prometheus.py` answer from it, `serving.py` runs the server over it, `telling.py` tells
it to a person. `record.py` with `stories.py` makes recordings from a real cluster.
"""
