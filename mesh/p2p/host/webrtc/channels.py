"""Data channels: which streams there are, how they are opened (RFC 8832) and when their numbers are free again."""

import struct
from collections.abc import Callable, Iterator

from mesh.p2p.host.webrtc.stream import WebRtcStream

CONTROL, STRING, BINARY, EMPTY_STRING, EMPTY = 50, 51, 53, 56, 57
_OPEN = struct.Struct(">BBHIHH")
_OPEN_MESSAGE, _ACK_MESSAGE = 3, 2
_LAST = 65534
# Of which a peer can make us hold state; how many it may use is judged where streams are handled.
MAX_CHANNELS = 512
HANDSHAKE = 0


class ChannelFault(ConnectionError):
    """The peer opened what it may not open."""


class Channels:
    """The channels of a connection. ``even`` are those of the side that dialled; 0 is the handshake's.

    A number is used again once both sides have closed it: the peer's reset came, and ours was done.
    """

    def __init__(
        self,
        *,
        even: bool,
        make: Callable[[int], WebRtcStream],
        send: Callable[[int, int, bytes], None],
        close: Callable[[int], None],
        on_opened: Callable[[WebRtcStream], None],
    ) -> None:
        self._make = make
        self._send = send
        self._close = close
        self._on_opened = on_opened
        self._next = 2 if even else 1
        self._parity = 0 if even else 1
        self._open: dict[int, WebRtcStream] = {}
        self._closing: dict[int, None] = {}

    def __iter__(self) -> Iterator[WebRtcStream]:
        return iter(list(self._open.values()))

    def get(self, channel: int) -> WebRtcStream | None:
        """The stream on a channel."""
        return self._open.get(channel)

    def open(self) -> WebRtcStream:
        """A new one of ours. Raises ChannelFault when all numbers are in use."""
        for _ in range(_LAST // 2):
            channel = self._next
            self._next = channel + 2 if channel + 2 <= _LAST else 2 if self._parity == 0 else 1
            if channel not in self._open and channel not in self._closing:
                stream = self._open[channel] = self._make(channel)
                self._send(channel, CONTROL, _OPEN.pack(_OPEN_MESSAGE, 0, 0, 0, 0, 0))
                return stream
        raise ChannelFault("no channel is free")

    def control(self, channel: int, message: bytes) -> None:
        """A message of the peer about a channel. Raises ChannelFault."""
        if not message or message[0] != _OPEN_MESSAGE:
            return
        if len(message) < _OPEN.size or channel % 2 == self._parity or channel in self._open or channel == HANDSHAKE:
            raise ChannelFault(f"opens channel {channel}, which it may not")
        if len(self._open) + len(self._closing) >= MAX_CHANNELS:
            raise ChannelFault(f"has more than {MAX_CHANNELS} channels")
        self._closing.pop(channel, None)
        stream = self._open[channel] = self._make(channel)
        self._send(channel, CONTROL, bytes([_ACK_MESSAGE]))
        self._on_opened(stream)

    def over(self, stream: WebRtcStream) -> None:
        """Both directions of a stream have ended: close its channel."""
        if self._open.pop(stream.channel, None) is not None:
            self._closing[stream.channel] = None
            self._close(stream.channel)

    def was_reset(self, channel: int) -> None:
        """The peer has closed its side; ours follows."""
        stream = self._open.pop(channel, None)
        if stream is not None:
            stream.gone()
            self._close(channel)
        self._closing.pop(channel, None)

    def end(self) -> None:
        """The connection is over."""
        for stream in self._open.values():
            stream.gone()
        self._open.clear()
