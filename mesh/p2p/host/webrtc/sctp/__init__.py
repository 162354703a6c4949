"""SCTP (RFC 9260) as data channels use it (RFC 8831), without I/O: packets and times go in, packets come out.

What it leaves out: multihoming, partial reliability, interleaving. Messages are delivered in the order of their TSNs,
so that one buffer puts all of them together; a lost packet therefore holds up all streams until it came again.
"""
