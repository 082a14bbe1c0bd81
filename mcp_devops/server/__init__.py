"""Speaks MCP: stdio and HTTP, both protocol eras. Knows the door; names no provider."""
