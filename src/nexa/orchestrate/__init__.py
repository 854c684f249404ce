"""What layers may not do themselves: join them. In: a config. Out: artifacts, a manifest, a story.

Read `steps.py` first (the one table of what can be made), then `run.py` (a training run from end
to end), then `runner.py` (how one step becomes a sealed artifact, or an earlier one is reused).
"""
