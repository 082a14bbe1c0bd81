"""Hears of deployments, from Kubernetes and Sentry. What is done about one belongs to `runs`."""
