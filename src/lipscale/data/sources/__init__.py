"""Data sets, one file each: `Settings` (the section `dataset` of a config) and `load`."""
