"""Whether records are what they were: a publication, a run, a second place."""
