"""Whether a model is what its spec says: its tensors, then the numbers in them."""
