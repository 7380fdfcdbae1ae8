"""Bound TCP sockets."""

import socket


def bind(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """`count` sockets on one port, among which the kernel spreads connections.

    A socket for each worker, made and kept by the master: when a worker dies, connections that it has not
    accepted yet wait for its successor. Raises OSError; port 0 takes a free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets: list[socket.socket] = []
    for _ in range(count):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if count > 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        port = sock.getsockname()[1]
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
