"""Speaks to a person: serve, demo, doctor, approve, audit, rbac. It decides nothing."""
