"""Showing: in come records and rows; out go a self-contained HTML page and a leaderboard.

Nothing here computes a result. Read `report.py` (the page of one run; `charts.py` draws its SVG,
`report.html.jinja` and `report.css` are the page) and `leaderboard.py` (one Parquet file a day;
`leaderboard_entries.py` says who enters, `leaderboard_rank.py` who stands where inside one seal,
`leaderboard_page.py` makes the page).
"""
