"""Incident response over MCP: facts, a verdict, an approved rollback, and the record of it."""

__version__ = "0.1.0"
