"""How this node and its peers are: sampled, scored, and alerted on, every choice an event of the journal."""
