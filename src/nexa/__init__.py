"""Nexa: from a data file to a fine-tuned, evaluated, published language model.

Layers meet through sealed artifacts, never through imports of each other:
`cli > orchestrate > infra | data | train | weights | eval | publish | ui > lm > core`.
Read `orchestrate/steps.py` first: it is the one table of everything that can be made.
"""

__version__ = "0.1.0"
