"""What rows go through, in this order; each takes rows and gives those kept and those rejected.

duplicates   copies, exact and near: the first one stays
leaks        rows that give a held-out row away
lengths      rows that the template refuses, or that are too long
split        which rows are trained on and which are held out
"""
