"""A GGUF file as a model that answers: llama.cpp, and the tokenizer of the folder made of it.

The child process is started when something is asked, with as much room as that needs: keys and
values take their memory at once.
"""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from nexa.core import events
from nexa.core.errors import MissingExtra, ModelError
from nexa.lm.llama_cpp import INSTALL, LlamaCpp, available
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer

# The smallest room that is made for texts, in tokens; it doubles until a text fits.
ROOM_TOKENS = 1024


class GgufRun:
    """A model that llama.cpp answers for."""

    def __init__(self, files: ModelFiles, tokenizer: PreTrainedTokenizerBase) -> None:
        self.files = files
        self.tokenizer = tokenizer
        self._path = gguf_of(files)
        self._server: LlamaCpp | None = None

    @property
    def positions(self) -> int | None:
        """How many tokens a text may have, where the config says so."""
        room = self.files.config.get("max_position_embeddings")
        return None if room is None else int(room)

    def server(self, tokens: int) -> LlamaCpp:
        """llama.cpp with room for texts of so many tokens.

        Raises:
            ModelError: the file cannot be loaded.
        """
        server = self._server
        if server is not None and not server.closed and server.positions >= tokens:
            return server
        self.close()
        room = ROOM_TOKENS
        while room < tokens:
            room *= 2
        self._server = LlamaCpp.open(self._path, positions=min(room, self.positions or room))
        return self._server

    def require_current(self) -> None:
        """A model of its own process has its weights for as long as it is asked."""

    def close(self) -> None:
        """End the child process; it is started again when something is asked."""
        if self._server is not None:
            self._server.close()


def open_gguf(files: ModelFiles) -> GgufRun:
    """Make a GGUF file ready to answer.

    Raises:
        ModelError: the model is no GGUF file.
        MissingExtra: xllamacpp is not installed.
    """
    run = GgufRun(files, load_tokenizer(files))
    events.emit("model.loaded", name=files.name, digest=files.digest, engine="llama.cpp")
    return run


def gguf_of(files: ModelFiles) -> Path:
    """The model's GGUF file, where llama.cpp can run it.

    Raises:
        ModelError: the model is no GGUF file.
        MissingExtra: xllamacpp is not installed.
    """
    if files.gguf is None:
        raise ModelError(
            f"llama.cpp runs GGUF files, and {files.name} is none",
            found=files.origin.partition(":")[0],
            fix="take the engine auto, or name a .gguf file",
        )
    if reason := available():
        raise MissingExtra(
            f"the engine llama.cpp cannot answer for {files.name}", found=reason, fix=INSTALL
        )
    return files.gguf
