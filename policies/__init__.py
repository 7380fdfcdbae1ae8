"""Rules for stacks, one a file; none yet."""
