"""Showing: in come records and rows; out go a self-contained HTML page and a leaderboard.

Nothing here computes a result. Read `report.py` (the page of one run; `charts.py` draws its SVG,
`report.html.jinja` and `report.css` are the page) and `leaderboard.py` (one Parquet file a day,
ranked inside one seal).
"""
