"""Experts: who can answer, whom to ask, and the life of a request."""
