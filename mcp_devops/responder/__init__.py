"""Answers deployments unattended: what is done with a verdict, and the switches that stop it.

What a verdict is belongs to `decision`; carrying an action out, to `gateway` and `incidents`; what
a team allows, to `response_policy`.
"""
