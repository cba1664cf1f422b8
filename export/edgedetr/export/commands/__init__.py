"""The commands of the export stage, one a file."""
