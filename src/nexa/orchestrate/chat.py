"""A conversation with a model on this machine, answered as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nexa.lm.chat import ChatTemplate
from nexa.lm.load import LoadedModel, load
from nexa.lm.local import stream
from nexa.lm.resolve import Source
from nexa.orchestrate.models import whole_model


@dataclass
class Conversation:
    """The turns so far, and the model that answers the next one."""

    loaded: LoadedModel
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
    ) -> Conversation:
        """Load a model (any form that `lm.resolve` takes) and begin."""
        loaded = load(whole_model(model, project=project, source=source))
        messages = [{"role": "system", "content": system}] if system else []
        return cls(loaded, ChatTemplate(loaded.tokenizer), limit, messages)

    def answer(self, text: str) -> Iterator[str]:
        """The model's answer to one more turn, piece by piece; whole pieces of text only."""
        self.messages.append({"role": "user", "content": text})
        prompt = self.template.prompt(self.messages)
        ids: list[int] = []
        told = whole = ""
        stop_ids = self.template.stop_ids
        for token in stream(self.loaded, prompt, max_new_tokens=self.limit, stop_ids=stop_ids):
            ids.append(token)
            whole = str(self.loaded.tokenizer.decode(ids, skip_special_tokens=True))
            # A character may take several tokens; until it is whole it decodes to this mark.
            if not whole.endswith("\N{REPLACEMENT CHARACTER}"):
                yield whole[len(told) :]
                told = whole
        if whole != told:  # cut off inside a character
            yield whole[len(told) :]
        self.messages.append({"role": "assistant", "content": whole})
