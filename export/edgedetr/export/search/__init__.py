"""Find what may run in INT8 or FP16 by measuring."""
