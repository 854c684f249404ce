"""GGUF: a model folder in, one file out that llama.cpp and its kin run; no compiler needed.

Read `write.py` first; `architecture.py` and `vocabulary.py` say what a file tells of its model,
`mixes.py` which tensor gets which type. `proof.py` reads a written file back.
"""
