"""When a call runs: queues, batching, deadlines, threads."""
