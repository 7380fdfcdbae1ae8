"""Stub."""
def down(): pass
