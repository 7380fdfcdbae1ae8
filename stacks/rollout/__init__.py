"""Rollouts: a new variant gets more of the requests as evidence for it comes in, or none when it is worse."""
