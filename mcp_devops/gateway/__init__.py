"""The one door: validate, permit, approve, record, run, redact, record. Not here: any protocol."""
