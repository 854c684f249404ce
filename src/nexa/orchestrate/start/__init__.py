"""Before the first run: what is here, what fits, and the config.yaml that follows from it."""
