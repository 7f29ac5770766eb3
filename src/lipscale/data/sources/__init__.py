"""Data sets, one file each: `Settings` (the section `dataset` of a config) and `load`, which gives a `Source`.

A config is read where neither numpy nor torch may be installed, so these modules import them inside `load`.
"""
