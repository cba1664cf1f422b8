"""Weights: on disk, from elsewhere, and taken over from a teacher."""
