"""libp2p's WebRTC-direct: STUN, DTLS 1.2, SCTP and Noise over one UDP port, without signalling.

Loaded only where `[overlay] listen` names it. Everything below the streams is pure or without I/O: datagrams and times
go in, datagrams come out. Specification: libp2p/specs, webrtc/README.md and webrtc/webrtc-direct.md.
"""
