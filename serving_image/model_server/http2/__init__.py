"""HTTP/2 of our own, for gRPC: frames, header compression, flow control, limits, drain.

Why not grpcio: on one core, its asyncio server spends 350 µs of CPU on a call before any of our work, which is
more than half of what the slowest peer needs for everything. It also cannot be forked after use, and answers
on a thread of its own, so calls would reach the engine one by one instead of a turn at a time.
"""
