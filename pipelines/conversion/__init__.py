"""Converts a GGUF to a prepared folder: the graph, the manifest and the weights."""
