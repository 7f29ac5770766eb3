"""Attacks: AutoAttack at a fixed epsilon, and falsification of each certificate at its own radius."""
