"""What an answer can be scored as: one file a task, one line of `table.py` each.

Read `task.py` first (what a task is made of), then `json_record.py`.
"""
