"""Check that two models find the same objects."""
