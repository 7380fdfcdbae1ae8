"""Huffman coding of header texts (RFC 7541, appendix B): decoding only, we send literals."""

_LENGTHS = (
    *(13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30),
    *(28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6),
    *(5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7),
    *(7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7),
    *(6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22),
    *(23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23),
    *(24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23),
    *(23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24),
    *(25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21),
    *(23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27),
    *(26, 30),
)
"""Bits of each octet's code, and of the end mark's. The code is canonical: the lengths say it all."""

_END = 256
_NIBBLE = 4
_MAX_PADDING_BITS = 7

_Step = tuple[int, int]
"""Next state, or -1 where no code goes on; the octet that was completed, or -1."""


class _Machine:
    """Reads four bits at a time: a state for each unfinished code, sixteen steps for each state."""

    def __init__(self) -> None:
        tree = _tree()
        self.steps = [
            [_walk(tree, state, nibble) for nibble in range(1 << _NIBBLE)] for state in range(len(tree))
        ]
        self.may_end = _states_of_padding(tree)


_machine: list[_Machine] = []


def decode(coded: bytes) -> bytes:
    """The text. Raises ValueError: not a code, or wrong padding."""
    if not _machine:
        _machine.append(_Machine())  # 4 ms, spent only if a client uses the coding
    steps = _machine[0].steps
    out = bytearray()
    state = 0
    for octet in coded:
        for nibble in (octet >> _NIBBLE, octet & 15):
            state, done = steps[state][nibble]
            if state < 0:
                raise ValueError("not a Huffman code")
            if done >= 0:
                out.append(done)
    if state not in _machine[0].may_end:
        raise ValueError("wrong Huffman padding")
    return bytes(out)


def _tree() -> list[list[int]]:
    """Nodes of two branches: another node's number, or ~symbol at a leaf; 0 where nothing is."""
    nodes: list[list[int]] = [[0, 0]]
    code = before = 0
    for symbol in sorted(range(len(_LENGTHS)), key=lambda s: (_LENGTHS[s], s)):
        bits = _LENGTHS[symbol]
        code = (code + 1) << (bits - before) if before else 0
        before = bits
        node = 0
        for shift in range(bits - 1, 0, -1):
            branch = code >> shift & 1
            if not nodes[node][branch]:
                nodes[node][branch] = len(nodes)
                nodes.append([0, 0])
            node = nodes[node][branch]
        nodes[node][code & 1] = ~symbol
    return nodes


def _walk(tree: list[list[int]], state: int, nibble: int) -> _Step:
    """The shortest code has five bits, so that a nibble completes one octet at most."""
    done = -1
    for shift in range(_NIBBLE - 1, -1, -1):
        branch = tree[state][nibble >> shift & 1]
        if branch < 0:
            if ~branch == _END:
                return -1, -1
            done, state = ~branch, 0
        else:
            state = branch
    return state, done


def _states_of_padding(tree: list[list[int]]) -> frozenset[int]:
    """Where a text may end: between codes, or after up to seven of the end mark's ones."""
    states = [0]
    for _ in range(_MAX_PADDING_BITS):
        states.append(tree[states[-1]][1])
    return frozenset(states)
