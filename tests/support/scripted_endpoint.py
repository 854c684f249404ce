"""A server on loopback that answers as an LLM API does, by a script, and counts what it bills.

    python -m tests.support.scripted_endpoint --script FILE --port 0 [--ledger FILE]

The first line of output is the address. It speaks `/v1/chat/completions` (OpenAI) and
`/v1/messages` (Anthropic). A script is JSON; every field has a default:

    {"answers": [{"when": "REGEX", "answer": "TEXT", "finish": "stop"}],
     "function": "package.module:name",
     "faults": [{"do": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 2}],
     "seed": 0, "api_key": null, "models": null, "context_tokens": null,
     "json_schema": "ignore", "usage": true, "idempotency": true, "refuses": []}

The first answer whose `when` is found in the last message is given; `\\g<1>` stands for a group. A
`function` takes the messages and returns the text. Without either the prompt comes back after
"answer to: ". A token is four characters here. See `Fault` for what can go wrong.

Every answer that is worked out is billed, once for each Idempotency-Key, and noted in the ledger:
one line of JSON each, flushed before the answer goes out, so that it holds whoever dies.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, RLock, Thread
from typing import IO, Any, ClassVar

from tests.support.scripted_wire import ANTHROPIC, completion, refusal

TOKEN_CHARS = 4
HELD_S = 120.0  # who forgets to let go must not hang
Answering = Callable[[list[dict[str, str]]], str]


@dataclass
class Fault:
    """What goes wrong with a request.

    do: status           `status` with `headers` and the error `code`/`message`; nothing is billed
        drop             the connection is cut before anything is worked out
        hang             nothing comes, for `hold_s` or until the client goes; nothing is billed
        drop-reply       billed, and the connection is cut before the answer
        drop-body        billed, and the connection is cut in the middle of the answer
        slow             billed, and the answer comes a byte at a time, `hold_s` apart
        malformed        billed, and the answer is no JSON
        no-choices       billed, and the answer has no choices
        redirect         307 to `location`

    It happens to requests whose last message holds `when`, at their attempts `attempts` (1 is the
    first; none: at all of them), to `share` of them (drawn from the seed, the request and the
    attempt), and `times` times in all.
    """

    do: str
    when: str = ""
    attempts: tuple[int, ...] = ()
    share: float = 1.0
    times: int | None = None
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = "planted"
    message: str = "planted"
    location: str = ""
    hold_s: float = 0.05


@dataclass
class Script:
    """How the endpoint behaves; see above."""

    answers: list[dict[str, str]] = field(default_factory=list)
    function: str | Answering | None = None
    faults: list[Fault] = field(default_factory=list)
    seed: int = 0
    api_key: str | None = None
    models: list[str] | None = None
    context_tokens: int | None = None
    json_schema: str = "ignore"
    """ignore | refuse"""
    usage: bool = True
    idempotency: bool = True
    refuses: list[str] = field(default_factory=list)
    """Names of options that are answered with status 400."""

    @classmethod
    def read(cls, path: Path) -> Script:
        """A script from its file."""
        told = json.loads(path.read_bytes())
        unknown = set(told) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"{path}: unknown fields {sorted(unknown)}")
        told["faults"] = [Fault(**fault) for fault in told.get("faults", [])]
        return cls(**told)


@dataclass
class Received:
    """One request, as it came."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    key: str
    attempt: int
    at: float


@dataclass
class Moment:
    """A point where the endpoint waits: `where` (arrived | billed | half) of the n-th request.

    Of the first one after it that comes so far, if a fault keeps the n-th from it.
    """

    nth: int
    where: str
    reached: Event = field(default_factory=Event)
    go: Event = field(default_factory=Event)

    def wait(self, timeout_s: float = 60) -> None:
        """Until the endpoint is there."""
        if not self.reached.wait(timeout_s):
            raise TimeoutError(f"no request number {self.nth} was {self.where}")


class ScriptedEndpoint:
    """The server, for the length of a block; `ledger` keeps what was billed."""

    def __init__(
        self, script: Script | None = None, *, ledger: Path | None = None, port: int = 0
    ) -> None:
        self.script = script or Script()
        self.ledger = ledger
        self.received: list[Received] = []
        self.most_at_once = 0
        self.moments: list[Moment] = []
        self._under_way = 0
        self._attempts: dict[str, int] = {}
        self._billed: list[dict[str, Any]] = []
        self._answers: dict[str, dict[str, Any]] = {}
        self._lock = RLock()
        if ledger is not None and ledger.exists():
            for line in ledger.read_text(encoding="utf-8").splitlines():
                self._note(json.loads(line))
        self._function = _function(self.script.function)
        self._server = _Server(self, port)

    @property
    def url(self) -> str:
        """The base URL as OpenAI's clients want it; Anthropic's want `root`."""
        return f"{self.root}/v1"

    @property
    def root(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ScriptedEndpoint:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for moment in self.moments:
            moment.go.set()
        self._server.end()
        self._thread.join()

    @property
    def billed(self) -> list[dict[str, Any]]:
        """What was billed, in order: key, prompt_sha256, input_tokens, output_tokens, answer."""
        with self._lock:
            return list(self._billed)

    def stop_at(self, nth: int, where: str = "arrived") -> Moment:
        """Wait in the n-th request from now on: when it arrived, was billed, or is half sent."""
        with self._lock:
            moment = Moment(len(self.received) + nth, where)
            self.moments.append(moment)
            return moment

    # -- what a request meets --------------------------------------------------------------------

    def arrived(self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Received:
        """Note a request."""
        told = json.dumps(body, sort_keys=True).encode()
        key = headers.get("idempotency-key") or hashlib.sha256(told).hexdigest()
        with self._lock:
            self._attempts[key] = self._attempts.get(key, 0) + 1
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            received = Received(path, headers, body, key, self._attempts[key], time.monotonic())
            self.received.append(received)
            return received

    def left(self) -> None:
        """A request is over."""
        with self._lock:
            self._under_way -= 1

    def number(self, received: Received) -> int:
        """Its place among all requests, from 1."""
        with self._lock:
            return next(i for i, one in enumerate(self.received, 1) if one is received)

    def pass_moment(self, number: int, where: str) -> None:
        """Wait there, if the test wants it."""
        with self._lock:
            waiting = [m for m in self.moments if not m.reached.is_set() and m.where == where]
            found = [m for m in waiting if m.nth <= number]
            for moment in found:
                moment.reached.set()
        for moment in found:
            moment.go.wait(HELD_S)

    def fault(self, received: Received) -> Fault | None:
        """What goes wrong with this request."""
        with self._lock:
            for place, fault in enumerate(self.script.faults):
                if self._strikes(place, fault, received):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def _strikes(self, place: int, fault: Fault, received: Received) -> bool:
        if fault.times == 0 or (fault.attempts and received.attempt not in fault.attempts):
            return False
        if not re.search(fault.when, _prompt(received.body)):
            return False
        drawn = f"{self.script.seed}:{place}:{received.key}:{received.attempt}".encode()
        share = int.from_bytes(hashlib.sha256(drawn).digest()[:4], "big") / 2**32
        return share < fault.share

    def refused(self, received: Received) -> tuple[int, str, str] | None:
        """Status, code and message, where the request itself is at fault."""
        script, body = self.script, received.body
        given = received.headers.get("authorization", "").removeprefix("Bearer ")
        if script.api_key not in (None, given, received.headers.get("x-api-key")):
            return 401, "invalid_api_key", f"Incorrect API key provided: {given}."
        if script.models is not None and body.get("model") not in script.models:
            return 404, "model_not_found", f"The model `{body.get('model')}` does not exist"
        named = [name for name in script.refuses if name in body]
        if received.path == ANTHROPIC:  # as of its API's version 2026-10-21
            named += [name for name in ("temperature", "top_p", "top_k", "seed") if name in body]
        if script.json_schema == "refuse":
            named += [name for name in ("response_format", "output_config") if name in body]
        if named:
            return 400, "unsupported_parameter", f"Unsupported parameter: '{named[0]}'."
        if script.context_tokens is not None:
            wanted = _tokens(_everything(body)) + _limit(body)
            if wanted > script.context_tokens:
                message = f"maximum context length is {script.context_tokens} tokens, not {wanted}"
                return 400, "context_length_exceeded", message
        return None

    def bill(self, received: Received) -> dict[str, Any]:
        """Work an answer out and note it; a known key is answered again for nothing."""
        with self._lock:
            if self.script.idempotency and received.key in self._answers:
                return self._answers[received.key]
            return self._bill(received)

    def _bill(self, received: Received) -> dict[str, Any]:
        text, finish = self._answer(received.body)
        limit = _limit(received.body) * TOKEN_CHARS
        if len(text) > limit:
            text, finish = text[:limit], "length"
        entry = {
            "key": received.key,
            "prompt_sha256": hashlib.sha256(_prompt(received.body).encode()).hexdigest(),
            "input_tokens": _tokens(_everything(received.body)),
            "output_tokens": _tokens(text),
            "answer": text,
            "finish": finish,
        }
        if self.ledger is not None:
            with self.ledger.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        self._note(entry)
        return entry

    def _note(self, entry: dict[str, Any]) -> None:
        self._billed.append(entry)
        self._answers[entry["key"]] = entry

    def _answer(self, body: Mapping[str, Any]) -> tuple[str, str]:
        prompt = _prompt(body)
        if self._function is not None:
            return self._function(list(body["messages"])), "stop"
        for rule in self.script.answers:
            if found := re.search(rule.get("when", ""), prompt):
                return found.expand(rule["answer"]), rule.get("finish", "stop")
        return f"answer to: {prompt}", "stop"


def billed_in(ledger: Path) -> list[dict[str, Any]]:
    """What a ledger says was billed."""
    if not ledger.exists():
        return []
    return [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]


def _function(named: str | Answering | None) -> Answering | None:
    if not isinstance(named, str):
        return named
    module, _, name = named.partition(":")
    found: Answering = getattr(importlib.import_module(module), name)
    return found


def _prompt(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"]) if body.get("messages") else ""


def _everything(body: Mapping[str, Any]) -> str:
    parts = [str(body.get("system", "")), *(str(m["content"]) for m in body.get("messages", ()))]
    return "".join(parts)


def _limit(body: Mapping[str, Any]) -> int:
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 16)


def _tokens(text: str) -> int:
    return -(-len(text) // TOKEN_CHARS)


# -- connections ---------------------------------------------------------------------------------


class _Dropped(Exception):
    """The connection is cut, by plan."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, endpoint: ScriptedEndpoint, port: int) -> None:
        self.open: set[socket.socket] = set()
        self.ending = Event()
        handler = type("Bound", (_Handler,), {"endpoint": endpoint, "ending": self.ending})
        super().__init__(("127.0.0.1", port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def end(self) -> None:
        """Stop, and hang up on who is still connected."""
        self.ending.set()
        self.shutdown()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 0
    endpoint: ClassVar[ScriptedEndpoint]
    ending: ClassVar[Event]
    wfile: IO[bytes]

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        if len(content) < length:  # the client died while it was sending
            self.close_connection = True
            return
        body = json.loads(content)
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = self.endpoint.arrived(self.path, headers, body)
        try:
            self._decide(received)
        except (_Dropped, ConnectionError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        finally:
            self.endpoint.left()

    def _decide(self, received: Received) -> None:
        number = self.endpoint.number(received)
        self.endpoint.pass_moment(number, "arrived")
        if refused := self.endpoint.refused(received):
            status, code, message = refused
            return self._send(status, refusal(received.path, status, code, message))
        fault = self.endpoint.fault(received)
        if fault is not None and fault.do in ("drop", "hang"):
            if fault.do == "hang":
                self.ending.wait(fault.hold_s)
            raise _Dropped
        if fault is not None and fault.do == "status":
            told = refusal(received.path, fault.status, fault.code, fault.message)
            return self._send(fault.status, told, headers=fault.headers)
        if fault is not None and fault.do == "redirect":
            return self._send(307, b"", headers={"Location": fault.location})
        entry = self.endpoint.bill(received)
        self.endpoint.pass_moment(number, "billed")
        if fault is not None and fault.do == "drop-reply":
            raise _Dropped
        self._answer(received, entry, fault, number)

    def _answer(
        self, received: Received, entry: Mapping[str, Any], fault: Fault | None, number: int
    ) -> None:
        do = fault.do if fault is not None else ""
        content = completion(
            received.path,
            received.body,
            entry,
            usage=self.endpoint.script.usage,
            empty=do == "no-choices",
        )
        if do == "malformed":
            content = content[: len(content) // 2]
        if do == "drop-body":
            self._send(200, content, only=len(content) // 2)
            raise _Dropped
        if do == "slow":
            assert fault is not None
            return self._send(200, content, apart_s=fault.hold_s)
        half = len(content) // 2
        self._head(200, len(content), {})
        self.wfile.write(content[:half])
        self.endpoint.pass_moment(number, "half")
        self.wfile.write(content[half:])

    def _send(
        self,
        status: int,
        content: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        only: int | None = None,
        apart_s: float = 0.0,
    ) -> None:
        self._head(status, len(content), headers or {})
        if not apart_s:
            self.wfile.write(content[:only])
            return
        for i in range(len(content)):
            self.wfile.write(content[i : i + 1])
            if self.ending.wait(apart_s):
                return

    def _head(self, status: int, size: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        told = {"Content-Type": "application/json", "Content-Length": str(size), **headers}
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until interrupted; the first line of output is the address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", type=Path)
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    script = Script.read(options.script) if options.script else None
    with ScriptedEndpoint(script, ledger=options.ledger, port=options.port) as endpoint:
        print(endpoint.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            Event().wait()


if __name__ == "__main__":
    main()
