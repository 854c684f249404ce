"""What the checks of one flight share: each thing is read once, when the first check needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nexa.core.config import Config
from nexa.core.errors import TemplateError
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.data.prepare import PrepareSpec
from nexa.data.rows import Reject, Row
from nexa.data.sources import read_source, tell_shape
from nexa.lm.chat import ChatTemplate, Rendered
from nexa.lm.resolve import ModelFiles
from nexa.lm.tokenizer import load_tokenizer
from nexa.orchestrate import plan
from nexa.orchestrate.check import sources


@dataclass
class Flight:
    """One configuration under check; `facts` grows as checks measure.

    What a check before has found to be wrong raises again here: `flight.ORDER` says which checks
    may ask for what.
    """

    config: Config
    tiers: Tiers
    free: Callable[[Path], int]
    facts: dict[str, Any] = field(default_factory=dict)
    records: dict[str, Artifact[Any]] = field(default_factory=dict)  # the dataset and the suite

    @property
    def root(self) -> Path:
        """The project's folder."""
        return self.tiers.root

    @cached_property
    def files(self) -> list[Path]:
        """Every file of rows: those trained on, then those held out."""
        return sources.all_files(self.config, self.root)

    @cached_property
    def base(self) -> ModelFiles:
        """The model to start from."""
        return plan.base_model(self.config, self.tiers)

    @cached_property
    def template(self) -> ChatTemplate:
        """Its chat template."""
        return ChatTemplate(load_tokenizer(self.base))

    @cached_property
    def train_rows(self) -> list[Row]:
        """The rows to learn from, as the files have them."""
        return _rows(plan.training_rows(self.config, self.root, self.base))

    @cached_property
    def held_out_rows(self) -> list[Row]:
        """The rows of `data.eval_path`; none where a share of the training file is kept."""
        if self.config.data.eval_path is None:
            return []
        return _rows(plan.held_out(self.config, self.root, self.base))

    @cached_property
    def rendered(self) -> list[Rendered | TemplateError]:
        """The training rows as the model reads them, in their order."""
        return list(self.template.render_each(row.content.messages for row in self.train_rows))


def _rows(spec: PrepareSpec) -> list[Row]:
    """The good rows of a recipe's sources; bad ones are told and kept by `prepare`."""
    rows: list[Row] = []
    for source in spec.sources:
        shape = tell_shape(source.path)[0] if spec.format == "auto" else spec.format
        items: list[Row | Reject] = list(read_source(source, shape))
        rows += [item for item in items if isinstance(item, Row)]
    return rows
