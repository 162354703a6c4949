"""The journal: every network event, expert request and health sample, once, in order, for good."""
