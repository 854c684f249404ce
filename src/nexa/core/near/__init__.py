"""Near-duplicates among more rows than memory holds: shingles in files, some numbers a row.

corpus     rows whose shingles lie in files: copies, clusters, leaks (what others import)
shelf      the files
counts     in how many rows each shingle is
measure    the weighted Jaccard of many pairs
pairs      which pairs are measured
joins      from pairs to clusters and copies
leaks      held-out rows that are given away
"""
