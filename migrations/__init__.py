"""The schema of the projections, step by step. Schema only: the data is folded from the journal anew."""
