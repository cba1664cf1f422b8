"""Measure models and show them side by side."""
