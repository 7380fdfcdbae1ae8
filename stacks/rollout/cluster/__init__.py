"""Rollouts of an estate on Kubernetes: what differs from one machine, behind the same interfaces."""
