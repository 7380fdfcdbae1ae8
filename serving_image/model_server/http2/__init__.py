"""HTTP/2 of our own, for gRPC: frames, header compression, flow control, limits, drain.

Why not grpcio: on one core, its asyncio server spends some 350 µs of CPU on a call that does next to nothing,
which is more than half of what MLServer needs for everything; here it is 50. It also must not be used before
a fork, and its own thread would bring calls to the engine one by one instead of a turn at a time.
"""
