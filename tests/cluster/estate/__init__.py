"""Estates on a real cluster."""
