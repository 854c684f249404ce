"""Merging models: several whole models (or adapters) of one architecture in, one out."""
