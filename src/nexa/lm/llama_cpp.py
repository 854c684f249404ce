"""A GGUF file run by llama.cpp, through the package xllamacpp (extra `gguf`).

llama.cpp runs in a child process, `nexa.lm.llama_cpp_server`, for three reasons: a damaged file may
end its process, its log cannot be kept off the terminal from within, and its memory comes back. The
two speak over a socket in a folder that is closed to other users.

Answers are greedy and the same on every run: one text at a time, keys and values in float32, no
flash attention. Sampling, batches and other caches are for serving, not for proofs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Collection, Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nexa.core.errors import MissingExtra, ModelError
from nexa.core.events import progress
from nexa.core.secrets import child_environment
from nexa.core.session_socket import MAX_SOCKET_PATH_BYTES
from nexa.lm.answers import REPORT_EVERY_STEPS, Generation, Pace, require_room
from nexa.lm.llama_cpp_server import READY

PACKAGE = "xllamacpp"
INSTALL = 'pip install "nexa-compute[gguf]"'
KV_TYPE = "float32"

# Greedy: no other sampler stands before the temperature, and a temperature of 0 takes the largest.
GREEDY = {"samplers": ["temperature"], "temperature": 0, "cache_prompt": True}
# Added to the logit of the token that shall come; probabilities are told without it.
FORCED = 1e6
# The logarithm of the smallest float32 above 0: what a probability of 0 is told as.
LOWEST_LOG_PROB = -103.28
SOCKET = "llama.sock"  # it takes a name that ends in .sock for one
LOG = "log"
ASSERTION = "GGML_ASSERT"
ERROR = re.compile(r"[\d.]+ E (cmn +|srv +)?\w+: (error loading model: )*")
END_WAIT_S = 10
# llama.cpp writes its log in a thread of its own, some moments after the refusal it explains.
LOG_WAIT_S = 5
LOG_POLL_S = 0.01


def available() -> str | None:
    """Why GGUF files cannot be run here; None where they can."""
    return None if find_spec(PACKAGE) else f"the package {PACKAGE} is not installed"


def runtime_version() -> str:
    """The package and its version: part of a score's identity."""
    return f"{PACKAGE} {installed_version(PACKAGE)}"


class Child:
    """A process of llama.cpp that waits to be told its file; a context manager.

    It takes a third of a second to be there: whoever is still writing the file starts it before.
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            MissingExtra: xllamacpp is not installed.
        """
        if reason := available():
            raise MissingExtra("llama.cpp cannot be run", found=reason, fix=INSTALL)
        self.folder = _private_folder()
        self.process = _started(self.folder)
        self.close = weakref.finalize(self, _end, self.process, self.folder)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def load(self, job: dict[str, Any]) -> bool:
        """Tell it its file and wait; whether it has loaded it."""
        with contextlib.suppress(BrokenPipeError):  # it ended: it will not say that it is ready
            cast(Any, self.process.stdin).write(json.dumps(job) + "\n")
            cast(Any, self.process.stdin).flush()
        return bool(cast(Any, self.process.stdout).readline().strip() == READY)


class LlamaCpp:
    """A GGUF file under llama.cpp, loaded until it is closed; a context manager."""

    def __init__(self, path: Path, positions: int, child: Child):
        self.path = path
        self.positions = positions
        self._child = child
        self._connection = _Connection(child.folder / SOCKET)

    @classmethod
    def open(
        cls, path: Path, *, positions: int, threads: int | None = None, child: Child | None = None
    ) -> LlamaCpp:
        """Load a file with room for texts of `positions` tokens, their answers among them.

        `threads` are those of torch, if they are not given. `child` is a process that was started
        before, and ends with this.

        Raises:
            MissingExtra: xllamacpp is not installed.
            ModelError: a file that llama.cpp cannot load.
        """
        made = cls(path, positions, child or Child())
        job = {
            "path": str(path.resolve()),
            "socket": str(made._child.folder / SOCKET),
            "positions": positions,
            "threads": threads or torch.get_num_threads(),
        }
        if not made._child.load(job):
            found = made._complaint(loading=True)
            made.close()
            raise ModelError(f"llama.cpp cannot load {path.name}", found=found)
        return made

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and give its memory back; closing again does nothing."""
        self._child.close()

    @property
    def closed(self) -> bool:
        """Whether there is nothing to ask any more."""
        return not self._child.close.alive

    @property
    def vocabulary(self) -> int:
        """Tokens that the model tells apart."""
        return int(self._ask("GET", "/v1/models")["data"][0]["meta"]["n_vocab"])

    # -- answers -------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stop_ids: Collection[int],
    ) -> list[Generation]:
        """Answer every prompt greedily, one after the other; results in the prompts' order.

        As `nexa.lm.local.generate`.

        Raises:
            ModelError: a prompt that is empty or does not fit, or llama.cpp ended.
        """
        require_room(self.path.name, self.positions, prompts, max_new_tokens)
        with progress("answering", len(prompts), "rows") as bar:
            pace = Pace(bar, max_new_tokens)
            return [self._answer(prompt, stop_ids, pace) for prompt in prompts]

    def stream(
        self, prompt: Sequence[int], *, max_new_tokens: int, stop_ids: Collection[int]
    ) -> Iterator[int]:
        """The likeliest tokens after one prompt, each as soon as it is known, no stop token.

        Raises:
            ModelError: as `generate`.
        """
        require_room(self.path.name, self.positions, [prompt], max_new_tokens)
        return self._stream(list(prompt), max_new_tokens, stop_ids)

    def _stream(
        self, ids: list[int], max_new_tokens: int, stop_ids: Collection[int]
    ) -> Iterator[int]:
        # A request a token: its own stream leaves out tokens that end inside a character.
        for _ in range(max_new_tokens):
            [token] = self._next(ids, 1)
            if token in stop_ids:
                return
            ids.append(token)
            yield token

    def _answer(self, prompt: Sequence[int], stop_ids: Collection[int], pace: Pace) -> Generation:
        start = time.perf_counter()
        ids: list[int] = []
        stopped = False
        while not stopped and len(ids) < pace.max_new_tokens:
            count = min(REPORT_EVERY_STEPS, pace.max_new_tokens - len(ids))
            # Shorter than asked for after a token that llama.cpp takes for an end; whether it is
            # one, the chat template says.
            for token in self._next([*prompt, *ids], count):
                stopped = token in stop_ids
                if stopped:
                    break
                ids.append(token)
                pace.stepped([ids])
        answer = Generation(ids, stopped, time.perf_counter() - start)
        pace.ended(answer)
        return answer

    def _next(self, ids: Sequence[int], count: int) -> list[int]:
        """The likeliest tokens after a text: `count`, or fewer, the last of which ends one."""
        made = self._complete(ids, n_predict=count, return_tokens=True)
        return [int(token) for token in made["tokens"]]

    # -- probabilities -------------------------------------------------------------------

    def log_probs(self, ids: Sequence[int], *, start: int = 0) -> Tensor:
        """Log-probabilities of whatever may follow each token from `start` on, `[T - start, V]`.

        In float32; one below the smallest number that float32 holds is LOWEST_LOG_PROB. Takes one
        request a position, and 0.2 s for each at a vocabulary of 49,152: the answer is text.

        Raises:
            ModelError: no tokens, or more than there is room for: all that the model was trained
                on but one; or weights that give no numbers.
        """
        self._require_text(ids)
        vocabulary, common = self.vocabulary, self.tokenize("a")[-1]
        rows = [self._row(ids[: end + 1], vocabulary, common) for end in range(start, len(ids))]
        return torch.stack(rows) if rows else torch.empty(0, vocabulary)

    def top_log_probs(self, ids: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
        """The `count` likeliest tokens after a text and their log-probabilities, `[count]` each.

        A hundredth of the time of `log_probs`, for which the whole vocabulary is told as text.
        They are as they are told: the sum that they were divided by is off by some 2e-4.

        Raises:
            ModelError: as `log_probs`.
        """
        self._require_text(ids)
        [told] = self._forced(ids, self.tokenize("a")[-1], count=min(count, self.vocabulary))
        tops = told["top_logprobs"]
        tokens = torch.tensor([entry["id"] for entry in tops])
        values = torch.tensor([entry["logprob"] for entry in tops], dtype=torch.float32)
        return tokens, values.clamp(min=LOWEST_LOG_PROB)

    def token_log_probs(self, ids: Sequence[int], *, start: int = 1) -> list[float]:
        """The log-probability of each token from `start` on, after those before it.

        As it is told: off by as much as its sum over the vocabulary, some 2e-4 nats.

        Raises:
            ModelError: as `log_probs`.
        """
        self._require_text(ids)
        found: list[float] = []
        for end in range(start, len(ids)):
            told = self._forced(ids[:end], ids[end], count=1)
            # Nothing is told of a token that ends inside a character: all are asked for then.
            found.append(
                max(float(told[0]["logprob"]), LOWEST_LOG_PROB)
                if told and told[0]["id"] == ids[end]
                else float(self.log_probs(ids[:end], start=end - 1)[0, ids[end]])
            )
        return found

    def _row(self, ids: Sequence[int], vocabulary: int, common: int) -> Tensor:
        [told] = self._forced(ids, common, count=vocabulary)
        row_V = torch.full((vocabulary,), LOWEST_LOG_PROB)
        places = torch.tensor([entry["id"] for entry in told["top_logprobs"]])
        values = torch.tensor([entry["logprob"] for entry in told["top_logprobs"]])
        row_V[places] = values.clamp(min=LOWEST_LOG_PROB)
        # Its sum over the vocabulary is one of float32, in order: off by 2e-4 at 49,152.
        return row_V.log_softmax(-1)

    def _forced(self, ids: Sequence[int], token: int, *, count: int) -> list[dict[str, Any]]:
        """What is told of the probabilities after a text when `token` is made to follow it."""
        made = self._complete(ids, n_predict=1, n_probs=count, logit_bias=[[token, FORCED]])
        told: list[dict[str, Any]] = made.get("completion_probabilities", [])
        if any(entry["logprob"] is None for of in told for entry in [of, *of["top_logprobs"]]):
            raise ModelError(
                f"{self.path.name} gives probabilities that are not numbers",
                fix="its weights are damaged: make it again",
            )
        return told

    def _require_text(self, ids: Sequence[int]) -> None:
        if not ids or len(ids) > self.positions:
            raise ModelError(
                "a text does not fit",
                found=f"{len(ids)} tokens, {self.path.name} has room for 1 to {self.positions}",
            )

    # -- text ----------------------------------------------------------------------------

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        """A text's tokens, by the tokenizer in the file.

        `add_special` puts what the model begins a text with before it; `parse_special` takes the
        names of special tokens in the text for those tokens.
        """
        asked = {"content": text, "add_special": add_special, "parse_special": parse_special}
        return [int(token) for token in self._ask("POST", "/tokenize", asked)["tokens"]]

    # -- the child -----------------------------------------------------------------------

    def _complete(self, ids: Sequence[int], **asked: Any) -> dict[str, Any]:
        return self._ask("POST", "/completion", {"prompt": list(ids), **GREEDY, **asked})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if self.closed:
            raise ModelError(f"{self.path.name} was closed", fix="open it again")
        try:
            status, answer = self._connection.ask(method, path, body)
        except (OSError, HTTPException) as error:
            found = self._complaint(loading=False)
            self.close()
            raise ModelError(
                f"llama.cpp ended while it ran {self.path.name}", found=found
            ) from error
        if status != 200:
            raise ModelError(
                f"llama.cpp refuses what {self.path.name} was asked",
                found=str(answer.get("error", {}).get("message", answer)),
            )
        return answer

    def _complaint(self, *, loading: bool) -> str:
        """Why it ended or refused, as far as it wrote so."""
        if loading:
            return self._refusal()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.process.wait(END_WAIT_S)
        asserted = [line for line in self._log() if line.startswith(ASSERTION)]
        # Other lines of its log are of requests that it refused.
        return asserted[0] if asserted else f"exit code {self._child.process.returncode}"

    def _refusal(self) -> str:
        """Why it cannot load the file: what llama.cpp says of it, or else how its process ended."""
        deadline = time.monotonic() + LOG_WAIT_S
        while True:
            ended = self._child.process.poll() is not None or time.monotonic() > deadline
            lines = self._log()
            said = [line for line in lines if line.startswith(ASSERTION)]
            # `0.00.005.793 E llama_model_load: error loading model: ...`
            said += [ERROR.sub("", line) for line in lines if ERROR.match(line)]
            if said or ended:
                return [*said, *lines[-1:], f"exit code {self._child.process.returncode}"][0]
            time.sleep(LOG_POLL_S)

    def _log(self) -> list[str]:
        """The whole lines that it has written, assertions without what stands before them."""
        written = (self._child.folder / LOG).read_text(errors="replace")
        lines = written[: written.rfind("\n") + 1].splitlines()
        return [line[max(line.find(ASSERTION), 0) :] for line in lines]


class _Connection(HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(os.fspath(self._path))

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        """One request: (status, answer), on a connection of its own: idle ones are hung up."""
        content = None if body is None else json.dumps(body)
        try:
            self.request(method, path, content, {"Content-Type": "application/json"})
            response = self.getresponse()
            return response.status, json.loads(response.read())
        finally:
            self.close()


def _private_folder() -> Path:
    """A new folder of the user's own, with a path that a socket's name may have."""
    folder = Path(tempfile.mkdtemp(prefix="nexa-"))
    if len(os.fsencode(folder / SOCKET)) > MAX_SOCKET_PATH_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="nexa-", dir="/tmp"))
    return folder


def _started(folder: Path) -> subprocess.Popen[str]:
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "nexa.lm.llama_cpp_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # An assertion that fails would call a debugger for a trace.
            env={**child_environment(), "GGML_NO_BACKTRACE": "1"},
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it in order
        )


def _end(process: subprocess.Popen[str], folder: Path) -> None:
    process.kill()
    process.wait(END_WAIT_S)
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):  # what was not sent is of no use any more
            cast(Any, pipe).close()
    shutil.rmtree(folder, ignore_errors=True)
