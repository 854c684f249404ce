"""L0, the machines. In: a run's start, end and price. Out: what it cost.

`cost_tracker.py` is all there is today: the machine is the local one.
"""
