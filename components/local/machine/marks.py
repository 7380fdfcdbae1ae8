"""Environment variables that every process of a stack carries, so that one which got lost is found again."""

HOST = "SERVING_ESTATE_HOST"
"""The state folder of the stack; it finds what a killed supervisor lost track of."""

PROGRAM = "SERVING_ESTATE_PROGRAM"
"""The supervised program that the process belongs to; its children carry it too."""
