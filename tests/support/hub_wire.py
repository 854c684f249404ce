"""The emulated Hub's connections: bodies in and out, planted faults, moments to stop at, a log."""

from __future__ import annotations

import contextlib
import re
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, RLock
from typing import IO, Any, ClassVar, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Outcome = int | Literal["drop", "drop-reply"]
PIECE_BYTES = 64 * 1024
IN_MEMORY_BYTES = 8 * 1024 * 1024
HELD_S = 120  # a test that forgets to let go must not hang


class Dropped(Exception):
    """The connection is cut, by plan or by the client."""


@dataclass
class Fault:
    """What goes wrong with the next `times` requests like this."""

    method: str
    path: re.Pattern[str]
    outcome: Outcome
    times: int
    after_bytes: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "planted"


@dataclass
class Moment:
    """A point of one request where the Hub says that it is there, and waits."""

    method: str
    path: re.Pattern[str]
    nth: int
    after_bytes: int | None
    reached: Event = field(default_factory=Event)
    _go: Event = field(default_factory=Event)

    def wait(self, timeout_s: float = 60) -> None:
        """Until the Hub is there."""
        if not self.reached.wait(timeout_s):
            raise TimeoutError(f"no {self.method} {self.path.pattern} came")

    def let_go(self) -> None:
        """The Hub goes on."""
        self._go.set()

    def hold(self) -> None:
        """Called by the Hub."""
        self.reached.set()
        self._go.wait(HELD_S)


@dataclass
class Request:
    """One request, as far as it came."""

    method: str
    path: str
    received: int = 0
    status: int | None = None
    """None: no answer was given."""


@dataclass(frozen=True)
class Call:
    """A request that has wholly arrived."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: IO[bytes]


@dataclass(frozen=True)
class Answer:
    """What is sent back; `content` is the bytes or where they are, `start` the first of them."""

    status: int = 200
    content: bytes | Path = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    start: int = 0
    length: int | None = None

    @property
    def size(self) -> int:
        if self.length is not None:
            return self.length
        held = self.content
        whole = len(held) if isinstance(held, bytes) else held.stat().st_size
        return whole - self.start


class Plans:
    """Faults, moments and the log; shared by all connections."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.moments: list[Moment] = []
        self.failures: list[str] = []
        self.lock = RLock()

    def met(self, method: str, path: str) -> tuple[Request, Fault | None, Moment | None]:
        """Log a request and take what is planned for it."""
        with self.lock:
            request = Request(method, path)
            self.requests.append(request)
            return request, self._fault(method, path), self._moment(method, path)

    def _fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and fault.path.search(path):
                fault.times -= 1
                return fault
        return None

    def _moment(self, method: str, path: str) -> Moment | None:
        found = None
        for moment in self.moments:
            if moment.nth and moment.method == method and moment.path.search(path):
                moment.nth -= 1
                found = found or (None if moment.nth else moment)
        return found


class Server(ThreadingHTTPServer):
    """Keeps its open connections, to close them at the end."""

    daemon_threads = False

    def __init__(self, plans: Plans, serve: Callable[[Call], Answer], port: int = 0) -> None:
        self.plans = plans
        self.open: set[socket.socket] = set()
        handler = type("Bound", (Handler,), {"plans": plans, "serve": staticmethod(serve)})
        super().__init__(("127.0.0.1", port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """Stop, and hang up on who is still connected."""
        self.shutdown()
        for moment in self.plans.moments:
            moment.let_go()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        import traceback

        self.plans.failures.append(traceback.format_exc())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    plans: ClassVar[Plans]
    serve: ClassVar[Callable[[Call], Answer]]

    def answer(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        request, fault, moment = self.plans.met(self.command, path)
        try:
            with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as body:
                self._receive(body, request, fault, moment)
                call = Call(self.command, path, parse_qs(parts.query), self.headers, body)
                answer = self._decide(call, fault)
                request.status = answer.status
                self._send(answer, fault)
        except (Dropped, ConnectionError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # http.server's own names

    def _receive(
        self, body: IO[bytes], request: Request, fault: Fault | None, moment: Moment | None
    ) -> None:
        drops_at = fault.after_bytes or 0 if fault and fault.outcome == "drop" else None
        if self.command in ("GET", "HEAD"):
            drops_at = None if fault and fault.after_bytes else drops_at
        stops_at = moment.after_bytes if moment else None
        length = int(self.headers.get("Content-Length") or 0)
        while True:
            if drops_at is not None and request.received >= drops_at:
                raise Dropped
            if moment and stops_at is not None and request.received >= stops_at:
                moment.hold()
                stops_at = None
            if request.received >= length:
                break
            ends = [length, *(end for end in (drops_at, stops_at) if end is not None)]
            wanted = min(PIECE_BYTES, min(ends) - request.received)
            piece = self.rfile.read(wanted)
            request.received += len(piece)
            body.write(piece)
            if len(piece) < wanted:
                raise Dropped
        if moment and moment.after_bytes is None:
            moment.hold()
        body.seek(0)

    def _decide(self, call: Call, fault: Fault | None) -> Answer:
        if fault and isinstance(fault.outcome, int):
            text = fault.message.encode()
            return Answer(fault.outcome, b'{"error":"%s"}' % text, json_headers(fault.headers))
        answer = type(self).serve(call)
        if fault and fault.outcome == "drop-reply":
            raise Dropped
        return answer

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(answer.size)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = fault.after_bytes if fault and fault.outcome == "drop" else None
        size = answer.size if cut is None else min(cut, answer.size)
        if isinstance(answer.content, bytes):
            self.wfile.write(answer.content[answer.start : answer.start + size])
        else:
            self._send_file(answer.content, answer.start, size)
        if cut is not None:
            raise Dropped

    def _send_file(self, path: Path, start: int, size: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            while size and (piece := file.read(min(PIECE_BYTES, size))):
                self.wfile.write(piece)
                size -= len(piece)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def json_headers(more: Mapping[str, str]) -> dict[str, str]:
    return {"Content-Type": "application/json", **more}
