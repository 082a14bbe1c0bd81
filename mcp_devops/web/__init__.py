"""Pages for people: incidents as self-contained HTML. Reads the record, changes nothing."""
