"""Hears providers over HTTP: signature, replay, duplicates, then hands over. Acts on nothing."""
