"""A Hub on loopback, just large enough for the real huggingface_hub to download from it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


Models = dict[str, Path | tuple[int, str]]


@contextlib.contextmanager
def hub_of(models: Models) -> Iterator[str]:
    """Serve folders by model id, all at one commit; `(status, error code)` refuses instead."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(models))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def handler_of(models: Models) -> type[BaseHTTPRequestHandler]:
    """What answers the requests."""

    class Handler(Answering):
        served = models

    return Handler


class Answering(BaseHTTPRequestHandler):
    """Answers for one commit of each of the `served` models."""

    served: ClassVar[Models] = {}

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        model_id = next((known for known in self.served if known in path), "")
        content = self.served.get(model_id, (404, "RepoNotFound"))
        if not isinstance(content, Path):
            self.refuse(*content)
        elif path == f"/api/models/{model_id}/revision/main":
            self.send_json({"id": model_id, "sha": COMMIT, "siblings": []})
        elif path == f"/api/models/{model_id}/tree/{COMMIT}":
            self.send_json(listing(content))
        elif path.startswith(f"/{model_id}/resolve/{COMMIT}/"):
            self.send_file(content / path.rpartition("/")[2])
        else:
            self.refuse(404, "RevisionNotFound")

    do_HEAD = do_GET  # http.server's own name

    def send_json(self, value: object) -> None:
        self.send_body(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send_file(self, file: Path) -> None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.send_body(file.read_bytes(), {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})

    def send_body(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def listing(folder: Path) -> list[dict[str, object]]:
    """A folder's files as the Hub lists them."""
    return [
        {
            "type": "file",
            "path": file.name,
            "size": file.stat().st_size,
            "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
        }
        for file in sorted(folder.iterdir())
    ]
