"""GGUF: a model folder in, one file out that llama.cpp and its kin run; no compiler needed."""
