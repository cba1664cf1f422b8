"""Build engines, and prove what they compute in."""
