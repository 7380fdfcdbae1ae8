"""Operating-system processes: start, signals, workers, drain."""
