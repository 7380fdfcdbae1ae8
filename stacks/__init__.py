"""The one program, and the environments it is run for."""
