"""The overlay's own process: trio, py-libp2p, and a link to the node. Only `wire` and `settings` are for the node."""
