"""Label files as people write them, read and checked."""
