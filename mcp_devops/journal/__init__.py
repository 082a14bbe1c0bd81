"""What was asked, seen, decided, allowed and done: append-only, hash-chained, on SQLite.

Here live the state file with its numbered migrations, the journal with its verification, and its
export. Who may approve, what an incident means and when an action runs are decided elsewhere;
their tables are only created here.
"""
