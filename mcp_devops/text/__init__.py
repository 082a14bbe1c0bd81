"""What any text passes before it leaves: escapes, secrets, budgets, folding.

Pure: strings and plain data in, strings and plain data out. No I/O, no clock, and no knowledge of
the systems the text came from.
"""
