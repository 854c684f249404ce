"""Publishing: in come a report and the records it grew from; out goes a folder that proves itself.

Read `publish.py` first (the step), then `layout.py` (what lies where in a published folder),
`verify.py` (how a reader checks it), `gate.py` (what is refused), `card.py` (the model card) and
`hub.py` (what a Hub is: a local folder, `hub_folder.py`, or one on the network, `hub_remote.py`).
"""
