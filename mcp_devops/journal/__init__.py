"""What was asked, seen, decided, allowed and done: append-only and hash-chained.

Here live the state, on SQLite or PostgreSQL, with its numbered migrations, the journal with its
verification, its export and the audit bundle. Who may approve, what an incident means and when an
action runs are decided elsewhere; their tables are only created here.
"""
