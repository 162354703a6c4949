"""SQL tables folded from the journal: always derived, never the truth, rebuilt at will."""
