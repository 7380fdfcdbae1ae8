"""One client's HTTP/2 connection: frames, streams, flow control, limits.

Every fault of a client ends its stream or its connection with the code that RFC 9113 names; everything that
a client can make us keep has a limit.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from model_server.http.port import LINGER_SECONDS
from model_server.http2 import frames, hpack
from model_server.http2.frames import Code, ConnectionFault, Setting, frame
from model_server.http2.stream import NOBODY, Receiver, Stream
from model_server.settings import GrpcSettings

if TYPE_CHECKING:
    from model_server.http2.listener import Listener

Accept = Callable[[Stream, hpack.Head], Receiver]
"""Called with each new stream; returns who reads it."""

_FRAME_LIMIT = 1 << 18
_CONNECTION_CREDIT = 1 << 30
_FORGOTTEN = 256
_MAX_BLOCK_FRAMES = 64
_DRAIN_PING_SECONDS = 1.0
_OTHER_METHODS = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
_OTHER_PROTOCOL = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"This port speaks gRPC (HTTP/2 without TLS). REST is on the HTTP port.\n"
)


class Connection(asyncio.Protocol):
    """Bytes in, streams to `accept`, answers out."""

    def __init__(self, listener: "Listener", limits: GrpcSettings, accept: Accept) -> None:
        self._listener = listener
        self._limits = limits
        self._accept = accept
        self._decoder = hpack.Decoder(limits.max_header_bytes)
        self._buffer = bytearray()
        self._expected = len(frames.PREFACE)
        """Bytes that the buffer must hold before anything can be read from it."""
        self._greeted = False
        self._settled = False
        self._streams: dict[int, Stream] = {}
        self._last_stream = 0
        self._forgotten: deque[int] = deque(maxlen=_FORGOTTEN)
        """Streams that we ended while the client was sending: what it still sends on them is no fault."""
        self._block: list[bytes] = []
        self._block_stream = 0
        self._block_flags = 0
        self._credit = frames.DEFAULT_WINDOW
        self._stream_credit = min(limits.max_message_bytes + frames.DEFAULT_FRAME, frames.MAX_WINDOW)
        self._stream_window = frames.DEFAULT_WINDOW
        self._blocked: dict[int, Stream] = {}
        self._resets = 0
        self._controls = 0
        self._max_controls = limits.max_control_frames_per_second * listener.sweep_seconds
        self._ending = False
        self._closing = False
        self._handlers = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_rst_stream,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
        )
        self.window = frames.DEFAULT_WINDOW
        """Bytes that the client has room for, over all streams."""
        self.frame_limit = frames.DEFAULT_FRAME
        """Bytes of the largest frame that the client takes."""
        self.due = 0.0
        """Clock of the listener at which the client must have sent something that is owed."""
        self.heard = 0.0
        """Clock of the listener when something last came."""
        self._pinged = False
        self._drained_by = float("inf")
        """When a client that does not answer the ping of `drain` has had its time."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self.heard = self._listener.clock
        self.due = self._listener.clock + self._limits.header_timeout_seconds
        if not self._listener.opened(self):
            self._transport.abort()
            return
        ours = {
            Setting.MAX_CONCURRENT_STREAMS: self._limits.max_concurrent_calls,
            Setting.INITIAL_WINDOW_SIZE: self._stream_credit,
            Setting.MAX_FRAME_SIZE: _FRAME_LIMIT,
            Setting.MAX_HEADER_LIST_SIZE: self._limits.max_header_bytes,
        }
        update = (_CONNECTION_CREDIT - self._credit).to_bytes(4, "big")
        self._credit = _CONNECTION_CREDIT
        self.write(frames.settings(ours) + frame(frames.WINDOW_UPDATE, 0, 0, update))

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        del exc
        self._closing = True
        self._listener.closed(self)
        self._drop_all()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._closing:
            return
        self.heard = self._listener.clock
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._expected:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        try:
            used = self._read(data)
        except ConnectionFault as fault:
            self._fail(fault)
            return
        if used < len(data) and not self._closing:
            self._buffer += memoryview(data)[used:]

    def eof_received(self) -> bool:
        """See asyncio.Protocol. A client that half-closes cannot go on with HTTP/2."""
        return False

    def pause_writing(self) -> None:
        """See asyncio.Protocol. The client does not read: do not read from it either."""
        self.due = self._listener.clock + self._limits.write_timeout_seconds
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if not self._closing:
            self.due = float("inf")
        self._transport.resume_reading()

    # reading

    def _read(self, data: bytes) -> int:
        """Handle the whole frames at the start of data; return their bytes."""
        at = 0
        end = len(data)
        if not self._greeted:
            at = self._greet(data)
            if not at:
                return 0
        unpack = frames.HEAD.unpack_from
        handlers = self._handlers
        while end - at >= frames.HEAD_BYTES:
            high, low, kind, flags, number = unpack(data, at)
            size: int = high << 16 | low
            if size > _FRAME_LIMIT:
                raise ConnectionFault(
                    Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes; the limit is {_FRAME_LIMIT}"
                )
            begin = at + frames.HEAD_BYTES
            if end - begin < size:
                self._expected = size + frames.HEAD_BYTES
                return at
            at = begin + size
            number &= frames.MAX_STREAM
            if self._block_stream and (kind != frames.CONTINUATION or number != self._block_stream):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted")
            if not self._settled:
                if kind != frames.SETTINGS or flags & frames.ACK:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
                self._settled = True
                self.due = float("inf")
            if kind < len(handlers):
                handlers[kind](flags, number, data[begin:at])
                if self._closing:
                    return at
                if self._controls > self._max_controls:
                    raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that carry nothing")
        self._expected = frames.HEAD_BYTES
        return at

    def _greet(self, data: bytes) -> int:
        preface = frames.PREFACE
        if data.startswith(preface):
            self._greeted = True
            return len(preface)
        if not preface.startswith(data[: len(preface)]):
            if data.startswith(_OTHER_METHODS):
                self.write(_OTHER_PROTOCOL)
            self._close()
        return 0

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._credit -= size
        if self._credit < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data than the connection's window")
        if self._credit < _CONNECTION_CREDIT // 2:
            self._window_update(0, _CONNECTION_CREDIT - self._credit)
            self._credit = _CONNECTION_CREDIT
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        stream = self._streams.get(number)
        if stream is None or stream.received_all:
            self._data_for_nobody(number)
            return
        stream.credit -= size
        if stream.credit < 0:
            self.reset(stream, Code.FLOW_CONTROL_ERROR)
            return
        if payload:
            if stream.left is not None:
                stream.left -= len(payload)
            if not stream.finished:
                stream.receiver.data(payload)
        elif not flags & frames.END_STREAM:
            self._count_control()
        if size != len(payload):
            self.give_credit(stream, size - len(payload))
        if flags & frames.END_STREAM:
            self._received_all(stream)

    def _data_for_nobody(self, number: int) -> None:
        if number == 0 or number > self._last_stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"DATA on stream {number}, which was never opened")
        if number not in self._forgotten:
            self._count_control()
            self._rst_stream(number, Code.STREAM_CLOSED)

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"HEADERS on stream {number}")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS are too short for their priority")
            if int.from_bytes(payload[:4], "big") & frames.MAX_STREAM == number:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream that depends on itself")
            payload = payload[5:]
        if len(payload) > self._limits.max_header_bytes:
            raise self._too_many_headers()
        if flags & frames.END_HEADERS:
            self._head(number, flags, payload)
            return
        self._block = [payload]
        self._block_stream = number
        self._block_flags = flags
        self.due = self._listener.clock + self._limits.header_timeout_seconds

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if not self._block_stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        if len(self._block) > _MAX_BLOCK_FRAMES or sum(map(len, self._block)) > self._limits.max_header_bytes:
            raise self._too_many_headers()
        if flags & frames.END_HEADERS:
            block, self._block, self._block_stream = b"".join(self._block), [], 0
            self.due = float("inf")
            self._head(number, self._block_flags, block)

    def _too_many_headers(self) -> ConnectionFault:
        return ConnectionFault(
            Code.ENHANCE_YOUR_CALM, f"the headers are over {self._limits.max_header_bytes} bytes"
        )

    def _head(self, number: int, flags: int, block: bytes) -> None:
        """A header block is whole: a new stream, or the end of one."""
        head: hpack.Head | None = None
        try:
            head = self._decoder.decode(block)
        except hpack.HpackError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, str(error)) from error
        except hpack.HeadersTooLarge:
            pass
        if number <= self._last_stream:
            self._trailers(number, flags, head)
            return
        self._last_stream = number
        if self._ending or len(self._streams) >= self._limits.max_concurrent_calls:
            self._forgotten.append(number)
            self._count_control()
            self._rst_stream(number, Code.REFUSED_STREAM)
            return
        due = self._listener.clock + self._limits.body_timeout_seconds
        stream = Stream(self, number, self._stream_window, self._stream_credit, due)
        self._streams[number] = stream
        if head is None:
            self.reset(stream, Code.ENHANCE_YOUR_CALM)
        elif not head.well_formed:
            self.reset(stream, Code.PROTOCOL_ERROR)
        else:
            stream.received_all = bool(flags & frames.END_STREAM)
            stream.left = head.length
            stream.receiver = self._accept(stream, head)
            if stream.received_all:
                self._received_all(stream)

    def _trailers(self, number: int, flags: int, head: hpack.Head | None) -> None:
        stream = self._streams.get(number)
        if stream is None:
            if number in self._forgotten:
                return
            raise ConnectionFault(Code.STREAM_CLOSED, f"HEADERS on stream {number}, which is closed")
        if stream.received_all:
            self.reset(stream, Code.STREAM_CLOSED)
        elif head is None or not flags & frames.END_STREAM or any(n[:1] == b":" for n in head.fields):
            self.reset(stream, Code.PROTOCOL_ERROR)
        else:
            self._received_all(stream)

    def _received_all(self, stream: Stream) -> None:
        stream.received_all = True
        stream.due = float("inf")
        if stream.left:
            # More or less than content-length said: somebody between us and the client may see another body.
            self.reset(stream, Code.PROTOCOL_ERROR)
            return
        if not stream.finished:
            stream.receiver.end()

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self._count_control()
        if number == 0:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a PRIORITY frame of wrong length")
        if int.from_bytes(payload[:4], "big") & frames.MAX_STREAM == number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream that depends on itself")

    def _on_rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an RST_STREAM frame of wrong length")
        if number == 0 or number > self._last_stream:
            raise ConnectionFault(
                Code.PROTOCOL_ERROR, f"RST_STREAM on stream {number}, which was never opened"
            )
        # Calls that are made and cancelled at once keep us busy and their maker idle ("rapid reset").
        self._resets += 1
        if self._resets > self._limits.max_resets_per_second * self._listener.sweep_seconds:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many cancelled calls")
        stream = self._streams.pop(number, None)
        if stream is not None:
            self._blocked.pop(number, None)
            self._drop(stream)
            self._end_if_done()

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"SETTINGS on stream {number}")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a SETTINGS acknowledgement with content")
            return
        self._count_control()
        for setting, value in frames.read_settings(payload):
            if setting == Setting.INITIAL_WINDOW_SIZE:
                self._resize_windows(value)
            elif setting == Setting.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME <= value <= frames.MAX_FRAME:
                    raise ConnectionFault(Code.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE {value}")
                self.frame_limit = min(value, _FRAME_LIMIT)
            elif setting == Setting.ENABLE_PUSH and value > 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH {value}")
        self.write(_SETTINGS_ACK)
        self._flush_all()

    def _resize_windows(self, size: int) -> None:
        if size > frames.MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE {size}")
        change = size - self._stream_window
        self._stream_window = size
        for stream in self._streams.values():
            stream.window += change
            if stream.window > frames.MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")

    def _on_push_promise(self, flags: int, number: int, payload: bytes) -> None:
        del flags, number, payload
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"PING on stream {number}")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a PING frame of wrong length")
        if not flags & frames.ACK:
            # Clients probe the line with many pings; what they can make us store, `pause_writing` limits.
            self.write(frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _DRAIN_PING and self._listener.draining and not self._ending:
            self._last_goaway()
        else:
            self._pinged = False

    def _on_goaway(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"GOAWAY on stream {number}")
        if len(payload) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a GOAWAY frame of wrong length")
        # The client opens no more streams: what is under way is answered, then the connection ends.
        self._ending = True
        self._end_if_done()

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a WINDOW_UPDATE frame of wrong length")
        size = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        if number == 0:
            self.window += size
            if size == 0:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0")
            if self.window > frames.MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
            self._flush_all()
            return
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last_stream:
                raise ConnectionFault(
                    Code.PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {number}, which was never opened"
                )
            return
        stream.window += size
        if size == 0:
            self.reset(stream, Code.PROTOCOL_ERROR)
        elif stream.window > frames.MAX_WINDOW:
            self.reset(stream, Code.FLOW_CONTROL_ERROR)
        elif number in self._blocked:
            self.flush(stream)

    # writing: called by Stream

    def write(self, data: bytes) -> None:
        """Send bytes that flow control does not hold back."""
        if not self._closing:
            self._transport.write(data)

    def flush(self, stream: Stream) -> None:
        """Send what is pending on a stream as far as the client has room."""
        pending = stream.pending
        number = stream.id
        if number not in self._streams:
            return
        while pending:
            data = pending[0]
            room = min(stream.window, self.window, self.frame_limit)
            if room <= 0 < len(data):
                break
            part = data[:room]
            stream.window -= len(part)
            self.window -= len(part)
            self.write(frame(frames.DATA, 0, number, part))
            if len(part) < len(data):
                pending[0] = data[len(part) :]
            else:
                pending.popleft()
            stream.blocked_since = self._listener.clock
        if pending:
            if number not in self._blocked:
                stream.blocked_since = self._listener.clock
                self._blocked[number] = stream
            return
        self._blocked.pop(number, None)
        if stream.finished and stream.trailers is not None:
            flags = frames.END_HEADERS | frames.END_STREAM
            self.write(frame(frames.HEADERS, flags, number, stream.trailers))
            self.answered(stream)

    def answered(self, stream: Stream) -> None:
        """The last frame of an answer is written."""
        del self._streams[stream.id]
        # The receiver holds the stream: let go, or only the garbage collector frees them.
        stream.receiver = NOBODY
        if not stream.received_all:
            # The client need not send the rest of a request that is answered.
            self._forgotten.append(stream.id)
            self._rst_stream(stream.id, Code.NO_ERROR)
        self._end_if_done()

    def reset(self, stream: Stream, code: Code) -> None:
        """End a stream at once."""
        if self._streams.pop(stream.id, None) is not None:
            self._blocked.pop(stream.id, None)
            self._forgotten.append(stream.id)
            self._count_control()
            self._rst_stream(stream.id, code)
            self._drop(stream)
            self._end_if_done()

    def give_credit(self, stream: Stream, size: int) -> None:
        """Let the client send more on a stream."""
        stream.credit += size
        self._window_update(stream.id, size)

    # life

    @property
    def busy(self) -> bool:
        """Calls are under way, or may be on their way."""
        return bool(self._streams) or (self._settled and not self._ending)

    def sweep(self, now: float) -> None:
        """End what takes too long; the listener calls this a few times a second."""
        self._resets = self._controls = 0
        if self.due < now:
            self._transport.abort()
        if self._closing:
            return
        if self._drained_by < now and not self._ending:
            self._last_goaway()
        limits = self._limits
        for stream in [s for s in self._streams.values() if s.due < now and not s.streaming]:
            stream.due = float("inf")
            stream.receiver.late()
        for stream in list(self._blocked.values()):
            if stream.blocked_since + limits.write_timeout_seconds < now:
                self.reset(stream, Code.CANCEL)
        silent = now - self.heard
        if self._pinged and silent > limits.keepalive_seconds + limits.keepalive_timeout_seconds:
            self._transport.abort()
        elif limits.keepalive_seconds and silent > limits.keepalive_seconds and not self._pinged:
            self._pinged = True
            self.write(frame(frames.PING, 0, 0, bytes(8)))

    def drain(self) -> None:
        """Ask the client to open no more streams; those that cross the notice on the wire are served."""
        if not self._settled:
            self._transport.close()
            return
        self.write(_goaway(frames.MAX_STREAM, Code.NO_ERROR) + frame(frames.PING, 0, 0, _DRAIN_PING))
        self._drained_by = self._listener.clock + _DRAIN_PING_SECONDS

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def _last_goaway(self) -> None:
        self._ending = True
        self.write(_goaway(self._last_stream, Code.NO_ERROR))
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._ending and not self._streams and not self._closing:
            self._close()

    def _fail(self, fault: ConnectionFault) -> None:
        self._listener.refused(fault.code)
        self.write(_goaway(self._last_stream, fault.code, str(fault).encode()))
        self._close()
        self._drop_all()

    def _close(self) -> None:
        """Close so that the last frame arrives: a reset while the client still sends would overtake it."""
        self._closing = self._ending = True
        if not self._transport.is_closing():
            self._transport.write_eof()
        self.due = self._listener.clock + LINGER_SECONDS

    def _drop_all(self) -> None:
        streams = list(self._streams.values())
        self._streams.clear()
        self._blocked.clear()
        for stream in streams:
            self._drop(stream)
        self._buffer.clear()
        self._block.clear()

    def _drop(self, stream: Stream) -> None:
        stream.finished = True
        stream.pending.clear()
        receiver, stream.receiver = stream.receiver, NOBODY
        receiver.lost()

    def _count_control(self) -> None:
        """A frame that costs us something and carries nothing: few are customary, floods are attacks."""
        self._controls += 1

    def _flush_all(self) -> None:
        for stream in list(self._blocked.values()):
            if self.window <= 0:
                break
            self.flush(stream)

    def _window_update(self, number: int, size: int) -> None:
        self.write(frame(frames.WINDOW_UPDATE, 0, number, size.to_bytes(4, "big")))

    def _rst_stream(self, number: int, code: Code) -> None:
        self.write(frame(frames.RST_STREAM, 0, number, code.to_bytes(4, "big")))


_DRAIN_PING = b"draining"
_SETTINGS_ACK = frame(frames.SETTINGS, frames.ACK, 0)


def _goaway(last: int, code: Code, debug: bytes = b"") -> bytes:
    return frame(frames.GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
