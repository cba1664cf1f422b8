"""What runs a model so that it can be compared."""
