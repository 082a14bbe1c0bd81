"""What a team lets the server do alone, where and when, and whom it calls: one YAML file.

It holds for every server, an agent's too. Applying it to a verdict belongs to `responder`.
"""
