"""The answers, and the commands that do what they say. A token is none of them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Literal

from nexa.orchestrate.data_files import EVAL_FRACTION

LOCAL_HUB = "local"


@dataclass(frozen=True)
class Answers:
    """Everything that was answered. What is None was not asked for."""

    base: str
    source: Literal["auto", "hub", "wheel"]
    data: str
    name: str
    method: Literal["lora", "qlora", "dora", "full"]
    mode: str
    train_options: tuple[str, ...]
    eval_fraction: float | None
    """The share that is set aside; None where a file is held out."""
    hub: str | None
    """`local` or the Hub's address; None: not published."""
    repo: str | None
    private: bool

    @property
    def output_dir(self) -> str:
        """Where training leaves the model."""
        return f"./output/{self.name}"

    def commands(self, *, keep_config: bool = False, output_dir: str | None = None) -> Commands:
        """The words of each command after `nexa`, in their order.

        With `keep_config` the config.yaml that is there is used, which trains into `output_dir`.
        """
        words: Commands = [] if keep_config else [self._init()]
        words += [["check"], ["train", *self.train_options]]
        if self.hub is not None and self.repo is not None:
            private = ["--private"] if self.private else []
            place = output_dir or self.output_dir
            words.append(["publish", "--repo", self.repo, "--hub", self.hub, *private, place])
        return words

    def _init(self) -> list[str]:
        words = ["init", "--base", self.base]
        if self.source != "auto":
            words += ["--base-source", self.source]
        words += ["--method", self.method, "--data", self.data, "--name", self.name]
        if self.eval_fraction is not None and self.eval_fraction != EVAL_FRACTION:
            words += ["--eval-fraction", f"{self.eval_fraction:g}"]
        return words

    def to_json(self) -> dict[str, Any]:
        """Plain data, as --json prints it."""
        return dict(vars(self))


Commands = list[list[str]]


def typed(words: list[str]) -> str:
    """A command as it is typed into a shell."""
    return shlex.join(["nexa", *words])
