"""A Hub on loopback that speaks the real client's protocol, for tests and for trying things out.

Xet is not spoken: HF_HUB_DISABLE_XET must be set before huggingface_hub is imported (the tests'
conftest does). `hub_api` has the endpoints, `hub_repos` what is kept, `hub_wire` connections,
planted faults and the log.

In a process of its own, with a token `hf_local...` that may write as `tester`:

    python -m tests.support.hub_emulator --port 0
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from types import TracebackType

from tests.support.hub_api import PRESIGNED, Api
from tests.support.hub_repos import Entry, Objects, Repo, Repos, Token
from tests.support.hub_wire import Answer, Call, Fault, Moment, Outcome, Plans, Request, Server

LOCAL_TOKEN = "hf_" + "local" * 6


class HubEmulator:
    """The Hub, from entering the context until leaving it."""

    def __init__(self, *, port: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hub-")
        self._repos = Repos(Objects(Path(self._folder.name)))
        self._api = Api(self._repos)
        self._plans = Plans()
        self._server = Server(self._plans, self._answer, port)
        self._api.url = self.url
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> HubEmulator:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.end()
        self._thread.join()
        self._folder.cleanup()
        if self._plans.failures and error is None:
            raise AssertionError("the emulator itself failed:\n" + "\n".join(self._plans.failures))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    # -- what it holds ---------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where the large objects lie, by their sha256."""
        return Path(self._folder.name)

    def add_token(
        self,
        value: str,
        name: str = "tester",
        role: str = "write",
        state: str = "valid",
        *,
        organisations: tuple[str, ...] = (),
        scopes: tuple[str, ...] = (),
    ) -> str:
        """Make a token known: role read, write or fineGrained; state valid, expired, revoked."""
        self._api.tokens[value] = Token(name, role, state, organisations, scopes)
        return value

    def add_repo(
        self,
        repo_id: str,
        files: Mapping[str, bytes] | Path,
        kind: str = "model",
        private: bool = False,
        *,
        gated: bool = False,
    ) -> str:
        """Make a repository with these files (or a folder's); returns the commit."""
        with self._plans.lock:
            self._repos.create(repo_id, kind, private=private).gated = gated
            return self.add_commit(repo_id, files, kind)

    def add_commit(
        self, repo_id: str, files: Mapping[str, bytes] | Path, kind: str = "model"
    ) -> str:
        """Somebody else's commit on a repository; returns it."""
        if isinstance(files, Path):
            paths = [path for path in sorted(files.rglob("*")) if path.is_file()]
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}
        with self._plans.lock:
            repo = self.repo(repo_id, kind)
            added = {path: self._repos.entry(path, data) for path, data in files.items()}
            return repo.add("files", {**repo.head.tree, **added}).id

    def repo(self, repo_id: str, kind: str = "model") -> Repo:
        """A repository as the Hub keeps it."""
        return self._repos.repos[kind, repo_id]

    def has_repo(self, repo_id: str, kind: str = "model") -> bool:
        return (kind, repo_id) in self._repos.repos

    def entries(self, repo_id: str, kind: str = "model") -> dict[str, Entry]:
        """The files of a repository's head with their digests."""
        return dict(self.repo(repo_id, kind).head.tree)

    def files(self, repo_id: str, kind: str = "model") -> dict[str, bytes]:
        """Path -> bytes of a repository's head."""
        entries = self.entries(repo_id, kind)
        return {path: self._repos.content(entry) for path, entry in entries.items()}

    def send_large_objects_in_parts(self, part_bytes: int) -> None:
        """From now on objects above this size are uploaded in parts."""
        self._api.part_bytes = part_bytes

    # -- what happens ----------------------------------------------------------------------------

    @property
    def requests(self) -> list[Request]:
        """Everything that was asked, in order."""
        return list(self._plans.requests)

    def uploads(self) -> dict[str, list[Request]]:
        """Large object (sha256) -> the requests that carried bytes of it."""
        found: dict[str, list[Request]] = {}
        for request in self.requests:
            if request.method == "PUT" and request.path.startswith(PRESIGNED):
                oid = request.path.removeprefix(PRESIGNED).partition("/")[0]
                found.setdefault(oid, []).append(request)
        return found

    def plan_fault(
        self,
        method: str,
        path_regex: str,
        outcome: Outcome,
        times: int = 1,
        *,
        after_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
        message: str = "planted",
    ) -> Fault:
        """Let the next requests like this fail.

        A number is the status; "drop" cuts the connection (before the body, or after so many
        bytes of what is sent or, for a GET, answered); "drop-reply" does what was asked and cuts
        the connection then.
        """
        fault = Fault(
            method, re.compile(path_regex), outcome, times, after_bytes, headers or {}, message
        )
        self._plans.faults.append(fault)
        return fault

    def stop_at(
        self, method: str, path_regex: str, *, nth: int = 1, after_bytes: int | None = None
    ) -> Moment:
        """Wait in the n-th request like this: after so many bytes, or before it is carried out."""
        moment = Moment(method, re.compile(path_regex), nth, after_bytes)
        self._plans.moments.append(moment)
        return moment

    def _answer(self, call: Call) -> Answer:
        with self._plans.lock:
            return self._api(call)


def main() -> None:
    """Serve until interrupted; the first line of output is the address."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token", default=LOCAL_TOKEN)
    parser.add_argument("--name", default="tester")
    options = parser.parse_args()
    with HubEmulator(port=options.port) as hub:
        hub.add_token(options.token, options.name)
        print(hub.url, flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
