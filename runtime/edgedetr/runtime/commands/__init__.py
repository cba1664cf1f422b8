"""The commands of the runtime, one a file."""
