"""The node's own API: NATS services under ``mesh.api``, and the Python client that speaks to them."""
