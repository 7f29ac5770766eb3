"""Training objectives, one file each: `Settings` and `loss`."""
