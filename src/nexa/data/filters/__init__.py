"""What rows go through: first each row by itself, then rows compared with each other.

registry     the table of filters of single rows; `base` says what one is, `texts` what many share
normalise    characters that nobody means: mended
quality      answers that are empty, an echo, a loop, broken; on request refusals and lengths
secrets      credentials: redacted or left out
pii          personal data: redacted or left out
language     rows of some languages only
safety       hazards in proposed experiments
unphysical   quantities that cannot be
duplicates   copies, exact and near: the first one stays
leaks        rows that give a held-out row away
lengths      rows that the template refuses, or that are too long
balance      so many rows of a domain at most
split        which rows are trained on and which are held out
"""
