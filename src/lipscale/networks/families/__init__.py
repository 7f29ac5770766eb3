"""Layer families, each found by its file: how to build a layer, and how to copy it with fixed weights."""
