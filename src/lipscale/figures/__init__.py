"""Figures 1 to 3, drawn from the tables alone; torch is not needed. `style` is what they share."""
