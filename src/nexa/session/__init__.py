"""Nexa Auto's session: a token that a process in the background keeps in its memory, nowhere else.

In comes a token that a person typed (`login`); out goes what the commands show about it (`status`).
Read `client.py` first: what a command may ask. Then `server.py`, the process at the other end of
the socket (`python -m nexa.session`), with `app.py`, its five requests, and `vault.py`, where the
token lies encrypted until it is forgotten. `nexa.core.secrets.hub_token` is who reads it.
"""

from nexa.session.client import SessionStatus, clear, login, logout, start, status

__all__ = ["SessionStatus", "clear", "login", "logout", "start", "status"]
