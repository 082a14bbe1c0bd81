"""One durable run a rollout: its course, its steps, and who goes on with it after a crash."""
