"""Rollouts on a real cluster."""
