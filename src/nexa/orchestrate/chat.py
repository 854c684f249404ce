"""A conversation with a model on this machine, answered as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from nexa.lm.chat import ChatTemplate
from nexa.lm.local import Engine, Opened, close_model, common_engine, open_model, stream
from nexa.lm.resolve import Source
from nexa.orchestrate.models import whole_model

DTYPE = "bfloat16"


@dataclass
class Conversation:
    """The turns so far, and the model that answers the next one."""

    loaded: Opened
    template: ChatTemplate
    limit: int
    messages: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        model: str,
        *,
        project: Path,
        system: str | None = None,
        limit: int = 256,
        source: Source = "auto",
        engine: Engine = "auto",
    ) -> Conversation:
        """Load a model (any form that `lm.resolve` takes) and begin.

        A GGUF file is answered by llama.cpp, where it is installed.

        Raises:
            UsageError: no such run.
            ModelError: no such model, or one that the engine asked for cannot answer for.
            MissingExtra: llama.cpp is asked for, and is not installed.
        """
        files = whole_model(model, project=project, source=source)
        chosen = common_engine([files], dtype=DTYPE, engine=engine)
        loaded = open_model(files, dtype=DTYPE, engine=chosen)
        messages = [{"role": "system", "content": system}] if system else []
        return cls(loaded, ChatTemplate(loaded.tokenizer), limit, messages)

    def close(self) -> None:
        """Give back what the model holds outside this process."""
        close_model(self.loaded)

    def answer(self, text: str) -> Iterator[str]:
        """The model's answer to one more turn, piece by piece as it is written."""
        self.messages.append({"role": "user", "content": text})
        prompt = self.template.prompt(self.messages)
        tokens = stream(
            self.loaded,
            prompt,
            max_new_tokens=self.limit,
            stop_ids=self.template.stop_ids,
        )
        whole = ""
        for piece in pieces(tokens, self.loaded.tokenizer):
            whole += piece
            yield piece
        self.messages.append({"role": "assistant", "content": whole})


def pieces(tokens: Iterable[int], tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Tokens as text, as early as it is certain: a character that takes several comes whole."""
    ids: list[int] = []
    told = whole = ""
    for token in tokens:
        ids.append(token)
        whole = str(tokenizer.decode(ids, skip_special_tokens=True))
        # Until all bytes of a character are there, it decodes to this mark.
        if not whole.endswith("\N{REPLACEMENT CHARACTER}"):
            yield whole[len(told) :]
            told = whole
    if whole != told:  # cut off inside a character
        yield whole[len(told) :]
