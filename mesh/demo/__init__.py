"""``mesh demo``: five real nodes on loopback, asked, killed, alerted on, resumed, replayed, and reported on."""
