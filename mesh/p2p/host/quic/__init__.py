"""QUIC (RFC 9000, 9001; specs/quic): aioquic's state machine over UDP sockets of ours, and behind our limits."""
