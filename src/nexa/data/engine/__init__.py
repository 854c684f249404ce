"""Rows by the million: read and measured in parts, on all cores, compared as arrays of numbers.

parts        sources and sealed datasets, cut into parts that one process reads at a time
stager       what becomes of a part: its rows in a stage file, what they are compared by beside it
workers      processes that do parts at the same time
staged       all rows of all parts, as arrays
sieve        which rows are still in, and why the others are not
output       the files of a dataset, written as the stage files are read
scratch      the folder for all of this, gone at the end or when the next one is made

Read in this order; `nexa.data.prepare` calls them in it, too. What comes out is the same whatever
the number of processes and wherever the parts were cut: a part knows its place in its source, and
no text is compared before all are there.
"""
