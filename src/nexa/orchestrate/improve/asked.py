"""What a pass of improvement is asked for: the command's options over config.yaml's `feedback`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nexa.core.config import Config
from nexa.core.config_feedback import KINDS, FeedbackSection
from nexa.core.errors import ConfigError, UsageError, nearest
from nexa.core.identity import slug
from nexa.core.records import SuiteBody
from nexa.feedback.feedback_generators.registry import GENERATORS, selector
from nexa.feedback.weakness_analysis import WeaknessSpec
from nexa.lm.client import Price
from nexa.orchestrate.data_files import LEFT_OUT, place_of
from nexa.orchestrate.teaching import Choice


@dataclass(frozen=True)
class Options:
    """What a command line says; None or nothing: config.yaml's `feedback` does."""

    generator: str | None = None
    rows: int | None = None
    rules: tuple[str, ...] = ()
    pool: str | None = None
    teacher: str | None = None
    base_url: str | None = None
    price: Price | None = None
    rounds: int | None = None
    budget_usd: float | None = None
    control: bool = False


@dataclass(frozen=True)
class Asked:
    """What counts as weak, who makes rows against it, how many, how often and for how much."""

    generator: str = "pool"
    rows: int = 40
    rules: tuple[str, ...] = ()
    threshold: float | None = None
    by: tuple[str, ...] = KINDS
    minimum_rows: int = 4
    minimum_groups: int = 3
    analysis_share: float = 1 / 3
    votes: int = 2
    pool: str | None = None
    teacher: Choice | None = None
    rounds: int = 2
    budget_usd: float | None = None
    control: bool = False

    def weakness(self, name: str, suite: SuiteBody) -> WeaknessSpec:
        """How weaknesses are looked for in this suite."""
        rules = self.rules
        if self.threshold is not None:
            rules = (f"{suite.primary} < {self.threshold:g}",)
        return WeaknessSpec(
            name=name,
            rules=rules,
            by=self.by,
            minimum_rows=self.minimum_rows,
            minimum_groups=self.minimum_groups,
        )

    def told(self) -> dict[str, Any]:
        """Plain data: what makes one pass another, so neither how often nor for how much."""
        teacher = None if self.teacher is None else [self.teacher.label, self.teacher.base_url]
        return {
            "generator": self.generator,
            "rows": self.rows,
            "rules": list(self.rules),
            "threshold": self.threshold,
            "by": list(self.by),
            "minimum_rows": self.minimum_rows,
            "minimum_groups": self.minimum_groups,
            "analysis_share": self.analysis_share,
            "votes": self.votes,
            "pool": self.pool,
            "teacher": teacher,
            "control": self.control,
        }


def asked_of(options: Options, section: FeedbackSection) -> Asked:
    """The command's options over the section.

    Raises:
        ConfigError: there is no such generator; or it asks a teacher, and none is named.
        UsageError: a teacher for a generator that asks none.
    """
    generator = options.generator or section.generator
    if generator not in GENERATORS.names():
        near = nearest(generator, GENERATORS.names())
        raise ConfigError(
            f"there is no generator {generator!r}",
            found=f"known: {', '.join(GENERATORS.names())}",
            fix=f"feedback.generator: {near}" if near else None,
        )
    asked = Asked(
        generator=generator,
        rows=options.rows or section.rows,
        rules=options.rules or section.rules,
        threshold=None if options.rules else section.threshold,
        by=section.by,
        minimum_rows=section.minimum_rows,
        minimum_groups=section.minimum_groups,
        analysis_share=section.analysis_share,
        votes=section.votes,
        pool=options.pool or section.pool,
        rounds=options.rounds or section.rounds,
        budget_usd=options.budget_usd or section.budget_usd,
        control=options.control,
    )
    if selector(generator) is not None:
        if options.teacher is not None:
            raise UsageError(
                f"the generator {generator} asks no teacher",
                found=f"--teacher {options.teacher}",
                fix=f"--generator teacher --teacher {options.teacher}",
            )
        return asked
    return replace(asked, teacher=_teacher(options, section, generator))


def _teacher(options: Options, section: FeedbackSection, generator: str) -> Choice:
    name = options.teacher or section.teacher
    if name is None:
        raise ConfigError(
            f"the generator {generator} has rows written by a teacher, and none is named",
            fix="--teacher MODEL, or feedback.teacher in config.yaml",
        )
    price = options.price
    if price is None and section.price is not None:
        price = Price(*section.price, source="config.yaml, feedback.price")
    # Another teacher than config.yaml's has neither its address nor its price.
    own = options.teacher in (None, section.teacher)
    return Choice(
        name=name,
        base_url=options.base_url or (section.base_url if own else None),
        price=price if own or options.price is not None else None,
    )


def pool_of(asked: Asked, config: Config, root: Path) -> Path | None:
    """Where the pool's rows lie: what was named, else a file `pool.*` beside the training rows.

    Raises:
        DataError: what was named is not there.
        ConfigError: rows are to be taken from a pool, and there is none.
    """
    if asked.pool is not None:
        return place_of(asked.pool, root).path
    given = root / Path(config.data.train_path).expanduser()
    folders = [given if given.is_dir() else given.parent, root]
    found = [
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.is_file() and slug(path.stem) in LEFT_OUT
    ]
    if found:
        return found[0]
    if asked.teacher is None or asked.control:
        raise ConfigError(
            "there is no pool of labelled rows to take candidates from",
            found=f"no file pool.* in {' or '.join(dict.fromkeys(str(f) for f in folders))}",
            fix="--pool FILE, or feedback.pool in config.yaml; without labelled rows: "
            "--generator teacher --teacher MODEL",
        )
    return None
