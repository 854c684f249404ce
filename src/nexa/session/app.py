"""The five requests that the session answers, as a Flask application.

| request        | what it does                                                        |
|----------------|---------------------------------------------------------------------|
| GET /status    | what may be told: whether there is a token, its mask, name, time left |
| GET /token     | the token, for Nexa's own processes                                 |
| PUT /token     | keep this token for `ttl_s` seconds                                 |
| DELETE /token  | forget it                                                           |
| POST /stop     | forget it and end the server                                        |

Who may ask is not decided here but at the socket (`server.py`), before a byte is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, abort, jsonify, request

from nexa.session.vault import Vault

MAX_TTL_S = 7 * 24 * 3600.0
MAX_REQUEST_BYTES = 16_384
# The statuses of requests that make no sense; each is answered as JSON too.
REFUSED = (400, 404, 405, 413, 415, 500)
# What `PUT /token` may say about a token and `GET /status` shows.
ABOUT = ("masked", "name", "role")


def create_app(vault: Vault, stop: Callable[[], None]) -> Flask:
    """The application over one vault; `stop` is called once /stop has been answered."""
    app = Flask("nexa.session", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES

    @app.get("/status")
    def status() -> Response:
        return jsonify(vault.state())

    @app.get("/token")
    def token() -> Response:
        return jsonify(token=vault.token())

    @app.put("/token")
    def keep() -> Response:
        body: Any = request.get_json()
        vault.put(_token(body), ttl_s=_ttl_s(body), about={name: body.get(name) for name in ABOUT})
        return jsonify(kept=True)

    @app.delete("/token")
    def clear() -> Response:
        return jsonify(cleared=vault.clear())

    @app.post("/stop")
    def end() -> Response:
        answer = jsonify(cleared=vault.clear())
        answer.call_on_close(stop)
        return answer

    def refused(error: Any) -> tuple[Response, int]:
        return jsonify(error=str(error.description)), int(error.code)

    for code in REFUSED:
        app.register_error_handler(code, refused)
    return app


def _token(body: Any) -> str:
    token = body.get("token") if isinstance(body, dict) else None
    if not isinstance(token, str) or not token:
        abort(400, "there is no token in the request")
    return token


def _ttl_s(body: dict[str, Any]) -> float:
    ttl_s = body.get("ttl_s")
    if not isinstance(ttl_s, (int, float)) or not 0 < ttl_s <= MAX_TTL_S:
        abort(400, f"ttl_s must be above 0 and at most {MAX_TTL_S:.0f}")
    return float(ttl_s)
