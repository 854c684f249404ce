"""Stands in for torchaudio, whose wheels need CUDA's libraries.

LLaMA-Factory imports it at its start and calls it for sound only.
"""

__version__ = "0"
