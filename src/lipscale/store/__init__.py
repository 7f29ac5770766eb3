"""Files: written whole, with a checksum that is compared whenever they are read, under a lock."""
