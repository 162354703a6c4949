"""The bridge between journals: what happens here that others should know, in their journals, with its origin."""
