"""Tells people what happens and takes their answers. What may be done is not decided here."""
