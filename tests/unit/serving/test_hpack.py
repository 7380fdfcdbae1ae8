"""Header compression against the package hpack, which others rely on."""

import contextlib
import random

import hpack as other
import pytest
from hpack.table import HeaderTable
from model_server.http2 import hpack, huffman

NAMES = [b":path", b"te", b"grpc-timeout", b"content-type", b"x-a", b"x-b", b""]


def some_headers(rng: random.Random) -> list[tuple[bytes, bytes]]:
    values = (rng.randbytes(rng.randrange(60)), b"v%d" % rng.randrange(20), b"POST", b"trailers")
    return [(rng.choice(NAMES), rng.choice(values)) for _ in range(rng.randrange(1, 12))]


def test_the_static_table_is_the_standards() -> None:
    assert hpack._STATIC == HeaderTable.STATIC_TABLE


@pytest.mark.parametrize("coded", [True, False])
def test_a_connection_of_blocks_is_read(coded: bool) -> None:
    rng = random.Random(3)
    for _ in range(50):
        encoder, decoder = other.Encoder(), hpack.Decoder(1 << 20)
        for _ in range(30):
            if rng.random() < 0.05:
                encoder.header_table_size = rng.choice([0, 60, 500, 4096])
            headers = some_headers(rng)
            assert list(decoder.decode(encoder.encode(headers, huffman=coded)).headers) == headers


def test_the_same_block_after_the_table_changed_is_read_anew() -> None:
    decoder = hpack.Decoder(1 << 20)
    add = lambda name, value: b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value  # noqa: E731
    newest = bytes([0x80 | 62])
    decoder.decode(add(b"a", b"1"))
    assert decoder.decode(newest).headers == ((b"a", b"1"),)
    assert decoder.decode(newest).headers == ((b"a", b"1"),)
    decoder.decode(add(b"b", b"2"))
    assert decoder.decode(newest).headers == ((b"b", b"2"),)


def test_what_we_write_is_read() -> None:
    rng = random.Random(4)
    decoder = other.Decoder()
    for size in (0, 1, 126, 127, 128, 300, 20_000):
        headers = (*some_headers(rng), (b"x", b"v" * size))
        read = [tuple(pair) for pair in decoder.decode(hpack.encode(headers), raw=True)]
        assert read == list(headers)


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # an entry that is not there
        b"\x00\x05ab",  # cut short
        b"\x00",
        b"\x7f\xff\xff\xff\xff\xff\xff\xff",  # an integer without end
        b"\x82\x3f\xe1\x1f",  # a size update after a header
        b"\x3f\xe2\x1f",  # a larger table than allowed
        b"\x00\x81\xff\x00",  # Huffman padding of eight bits
        b"\x00\x84\xff\xff\xff\xff\x00",  # the end mark
    ],
)
def test_nonsense_is_refused(block: bytes) -> None:
    with pytest.raises(hpack.HpackError):
        hpack.Decoder(1 << 20).decode(block)


def test_a_bomb_is_not_unpacked() -> None:
    decoder = hpack.Decoder(10_000)
    decoder.decode(b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4000)
    with pytest.raises(hpack.HeadersTooLarge):
        decoder.decode(b"\xbe" * 20_000)
    assert decoder.decode(b"\xbe").headers[0][0] == b"a"


def test_random_octets_raise_nothing_else() -> None:
    rng = random.Random(5)
    for _ in range(5000):
        with contextlib.suppress(hpack.HpackError, hpack.HeadersTooLarge):
            hpack.Decoder(1000).decode(rng.randbytes(rng.randrange(40)))


def test_huffman_reads_every_octet() -> None:
    text = bytes(range(256))
    from hpack.huffman import HuffmanEncoder
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

    assert huffman.decode(HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)) == text
