"""Layer families, one file each: `dense`, `conv`, `plain`, and `CONSTRAINED`."""
