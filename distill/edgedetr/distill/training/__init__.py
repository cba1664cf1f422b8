"""What a training step and a run of them need."""
