"""Run an exported detector in the vehicle."""
