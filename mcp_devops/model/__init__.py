"""The words all rooms share: data only. No I/O, no clients, no clock, no rules."""
