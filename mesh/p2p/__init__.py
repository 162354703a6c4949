"""The overlay: peers found, connected and watched over libp2p, and the protocols that they speak."""
