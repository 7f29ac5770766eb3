"""Figures, run summaries and pages, drawn from the tables alone; torch is not needed.

figures/      one file per figure, found by its name
style.py      fonts, sizes and colours that the figures share
labels.py     labels beside points, without overlaps
draw.py       draws a figure and writes it
summaries.py  a picture of each run
pages.py      pages of the report: runs, claims, provenance
publish.py    the part of the results that belongs into the repository
published_models.py  the trained networks in it
"""
