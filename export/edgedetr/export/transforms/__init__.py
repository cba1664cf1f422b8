"""A graph in, a graph out."""
