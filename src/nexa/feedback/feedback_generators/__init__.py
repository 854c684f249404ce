"""Where candidates come from: a pool of unused rows, chance, or a teacher.

`registry.py` has the table. `pool.py` is the step `select`, whose generators choose rows that are
there; `asking.py` is the step `propose`, whose generators have a teacher write questions, each of
which is then answered several times over and kept only if the answers agree.
"""
