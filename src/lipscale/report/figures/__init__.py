"""Figures of the report, one file each: TITLE, its label in the report; TABLES, the names of the tables it reads; and
`draw(tables) -> (figure, numbers)`. The caption lies beside it, with the suffix .rst.
"""
