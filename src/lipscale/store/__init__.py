"""Files: atomic writes, checksums, locks, run folders, provenance."""
