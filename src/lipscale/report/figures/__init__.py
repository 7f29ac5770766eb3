"""Figures and run sheets, drawn from the tables alone; torch is not needed. `style` is what they share."""
