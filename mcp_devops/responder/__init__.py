"""Answers deployments unattended: policy, limits, switches, durable runs.

What a verdict is belongs to `decision`; carrying an action out, to `gateway` and `incidents`.
"""
