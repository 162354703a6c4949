"""One association: its beginning and end, and what arrives given to who deals with it. Without I/O.

Either side may begin, and both at once (RFC 9260, section 5.2.1): the side that was dialled here only answers. The
cookie that SCTP has against forged addresses holds nothing, since DTLS below has proved the address already.
"""

import os
from collections.abc import Callable

from mesh.p2p.host.webrtc.sctp import packets
from mesh.p2p.host.webrtc.sctp.packets import Data, Init, SctpFault, chunk, data_in, init_in, packet, sack_in
from mesh.p2p.host.webrtc.sctp.receiving import Receiver
from mesh.p2p.host.webrtc.sctp.resets import Resets
from mesh.p2p.host.webrtc.sctp.sending import Sender
from mesh.p2p.host.webrtc.sctp.timing import RetransmissionTimer

MAX_STREAMS = 65535
_MAX_HEARTBEAT_BYTES = 1024


class SctpClosed(ConnectionError):
    """The peer ended the association."""


class Association:
    """``on_message`` gets stream, payload protocol and bytes; ``on_reset`` each stream that the peer closed.

    After each call `packets` has what is to be sent, and `deadline` says when `tick` is to be called.
    """

    def __init__(
        self,
        *,
        packet_bytes: int,
        window_bytes: int,
        max_message_bytes: int,
        on_message: Callable[[int, int, bytes], None],
        on_reset: Callable[[int], None],
    ) -> None:
        self._packet_bytes = packet_bytes
        self._tag = int.from_bytes(os.urandom(4), "big") or 1
        self._peer_tag = 0
        tsn = int.from_bytes(os.urandom(4), "big")
        self._cookie = os.urandom(16)
        self._their_cookie = b""
        self.receiver = Receiver(window_bytes, max_message_bytes, on_message)
        self.sender = Sender(packet_bytes, tsn)
        self.resets = Resets(tsn, on_reset)
        self._init = Init(self._tag, window_bytes, MAX_STREAMS, MAX_STREAMS, tsn)
        self._out: list[bytes] = []  # packets of control chunks
        self._greeting: bytes = b""  # INIT or COOKIE ECHO, until it is answered
        self._timer = RetransmissionTimer()
        self.is_up = False

    def connect(self, now: float) -> None:
        """Begin."""
        self._greeting = self._init.encode(packets.INIT)
        self._greet(now)

    def _greet(self, now: float) -> None:
        self._out.append(packet(self._peer_tag if self._their_cookie else 0, self._greeting))
        self._timer.start(now)

    # --- what comes ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """A packet. Raises SctpFault, SctpClosed."""
        tag, chunks = packets.taken_apart(data)
        if tag != (0 if chunks[0][0] == packets.INIT else self._tag):
            return  # of an association that was before
        received: list[Data] = []
        for kind, flags, body in chunks:
            if kind == packets.DATA:
                if self.is_up or self._their_cookie:
                    received.append(data_in(flags, body))
            else:
                self._control(kind, body, now)
        if received:
            self.receiver.packet(received, now)

    def _control(self, kind: int, body: bytes, now: float) -> None:
        match kind:
            case packets.SACK if self.is_up:
                self.sender.acknowledged(sack_in(body), now)
            case packets.INIT:
                self._init_came(init_in(body))
            case packets.INIT_ACK:
                self._init_was_answered(init_in(body), now)
            case packets.COOKIE_ECHO:
                self._cookie_came(body)
            case packets.COOKIE_ACK if self._their_cookie:
                self._establish()
            case packets.HEARTBEAT:
                self._say(chunk(packets.HEARTBEAT_ACK, body[:_MAX_HEARTBEAT_BYTES]))
            case packets.RE_CONFIG if self.is_up:
                for stream in self.resets.receive(body, self.receiver.cumulative):
                    self.sender.forget(stream)
            case packets.ABORT | packets.SHUTDOWN | packets.SHUTDOWN_ACK | packets.SHUTDOWN_COMPLETE:
                raise SctpClosed("closed by the peer")

    def _init_came(self, theirs: Init) -> None:
        if self.is_up:
            return
        self._meet(theirs)
        answer = Init(self._tag, self._init.window, MAX_STREAMS, MAX_STREAMS, self._init.tsn, self._cookie)
        self._out.append(packet(theirs.tag, answer.encode(packets.INIT_ACK)))

    def _init_was_answered(self, theirs: Init, now: float) -> None:
        if self.is_up or self._their_cookie or not self._greeting:
            return
        if not theirs.cookie:
            raise SctpFault("an INIT ACK without a cookie")
        self._meet(theirs)
        self._their_cookie = theirs.cookie
        self._greeting = chunk(packets.COOKIE_ECHO, theirs.cookie)
        self._timer.stop()
        self._greet(now)

    def _meet(self, theirs: Init) -> None:
        """What the peer said of itself; said again, it is the same or nothing that was sent holds any more."""
        self._peer_tag = theirs.tag
        self.sender.peer_window = theirs.window
        self.receiver.begin(theirs.tsn)
        self.resets.begin(theirs.tsn)

    def _cookie_came(self, cookie: bytes) -> None:
        if cookie != self._cookie or not self._peer_tag:
            return
        self._establish()
        self._say(chunk(packets.COOKIE_ACK))

    def _establish(self) -> None:
        self.is_up = True
        self._greeting = b""
        self._timer.stop()

    def _say(self, chunks: bytes) -> None:
        self._out.append(packet(self._peer_tag, chunks))

    # --- what goes -----------------------------------------------------------------------------------------------

    def ask_for_life(self) -> None:
        """Have the peer answer."""
        self._say(chunk(packets.HEARTBEAT, packets.parameter(1, os.urandom(8))))

    def abort(self) -> None:
        """It is over."""
        if self._peer_tag:
            self._say(chunk(packets.ABORT))

    def packets(self, now: float) -> list[bytes]:
        """All that is to be sent now."""
        out, self._out = self._out, []
        sack_at = self.receiver.sack_at
        head = b"" if sack_at is None or sack_at > now else self.receiver.sack().encode()
        bodies: list[bytes] = []
        if self.is_up:
            head += self.resets.chunks(now, self.sender.last_tsn, self.sender.is_through)
            bodies = self.sender.packets(now, len(head))
        if head and not bodies:
            bodies = [b""]
        for body in bodies:
            out.append(packet(self._peer_tag, head + body))
            head = b""
        return out

    def deadline(self) -> float | None:
        """When `tick` is to be called."""
        due = (self._timer.at, self.receiver.sack_at, self.sender.timer.at, self.resets.at)
        return min((one for one in due if one is not None), default=None)

    def tick(self, now: float) -> None:
        """Time has passed. Raises SctpFault when the peer did not answer often enough."""
        if self._timer.at is not None and now >= self._timer.at:
            if not self._timer.expired(now):
                raise SctpFault("no answer to the beginning of SCTP")
            self._out.append(packet(self._peer_tag if self._their_cookie else 0, self._greeting))
        if self.sender.timer.at is not None and now >= self.sender.timer.at:
            if not self.sender.timer.expired(now):
                raise SctpFault("no acknowledgement")
            self.sender.expired()
