"""What any text passes before it leaves: escapes, secrets, budgets, folding. Pure; knows nothing of systems."""
