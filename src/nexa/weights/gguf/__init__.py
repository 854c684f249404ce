"""GGUF: a whole model folder in, one file that llama.cpp and its kin run out; no compiler needed."""
