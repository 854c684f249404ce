"""What a text proposes that could hurt somebody, and quantities that cannot be.

flags        red flags and the safety score of a text (what others import)
unphysical   quantities that nothing can have
kinds        the kinds of hazard and how severe each is
rules        what a hazard looks like in a sentence
patterns     what a rule is, and how to look for many at once
words        words of laboratories
sentences    how a sentence speaks of a hazard
quantities   numbers with their units
"""
