"""The command's options over config.yaml's: who is asked, by which rules, from which pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.config import Config
from nexa.core.config_feedback import FeedbackSection
from nexa.core.config_sections import DataSection, ModelSection
from nexa.core.errors import ConfigError, UsageError
from nexa.core.records import SuiteBody
from nexa.lm.client import Price
from nexa.orchestrate.improve.asked import Options, asked_of, pool_of

SUITE = SuiteBody(
    task="text", rows=1, groups=1, domains={}, metrics=["exact"], primary="exact", max_new_tokens=1
)


def config(train: str) -> Config:
    return Config(model=ModelSection(path="m"), data=DataSection(train_path=train))


def test_what_the_command_says_comes_first() -> None:
    section = FeedbackSection(threshold=0.5, rows=10, rounds=3, budget_usd=1.0)
    asked = asked_of(Options(), section)
    assert (asked.rows, asked.rounds, asked.budget_usd, asked.teacher) == (10, 3, 1.0, None)
    assert asked.weakness("w", SUITE).rules == ("exact < 0.5",)
    told = asked_of(Options(rows=5, rounds=1, rules=("other < 0.1",), budget_usd=2.0), section)
    assert (told.rows, told.rounds, told.budget_usd) == (5, 1, 2.0)
    assert told.weakness("w", SUITE).rules == ("other < 0.1",)


def test_how_often_and_for_how_much_makes_no_other_pass() -> None:
    one = asked_of(Options(rounds=1, budget_usd=1.0), FeedbackSection())
    other = asked_of(Options(rounds=9), FeedbackSection())
    assert one.told() == other.told()
    assert asked_of(Options(rows=7), FeedbackSection()).told() != one.told()


def test_a_generator_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no generator 'pol'") as refused:
        asked_of(Options(generator="pol"), FeedbackSection())
    assert refused.value.fix == "feedback.generator: pool"
    with pytest.raises(ConfigError, match="'xyzzy'") as unlike:
        asked_of(Options(generator="xyzzy"), FeedbackSection())
    assert unlike.value.fix is None


def test_a_teacher_is_for_generators_that_ask_one() -> None:
    with pytest.raises(UsageError, match="asks no teacher"):
        asked_of(Options(teacher="gpt-4o"), FeedbackSection())
    with pytest.raises(ConfigError, match="none is named"):
        asked_of(Options(generator="paraphrase"), FeedbackSection())


def test_the_address_and_the_price_of_config_yaml_are_its_teacher_s() -> None:
    section = FeedbackSection(
        generator="teacher", teacher="wise", base_url="http://here/v1", price=(1.0, 2.0)
    )
    own = asked_of(Options(), section).teacher
    assert own is not None
    assert (own.name, own.base_url) == ("wise", "http://here/v1")
    assert own.price == Price(1.0, 2.0, source="config.yaml, feedback.price")
    other = asked_of(Options(teacher="gpt-4o"), section).teacher
    assert other is not None
    assert (other.base_url, other.price) == (None, None)
    priced = Price(3.0, 4.0, source="--price")
    given = asked_of(Options(teacher="x", base_url="http://there/v1", price=priced), section)
    assert given.teacher is not None
    assert (given.teacher.base_url, given.teacher.price) == ("http://there/v1", priced)
    assert given.told()["teacher"] == ["x", "http://there/v1"]


def test_the_pool_is_named_or_lies_beside_the_training_rows(tmp_path: Path) -> None:
    asked = asked_of(Options(), FeedbackSection())
    (tmp_path / "data").mkdir()
    with pytest.raises(ConfigError, match="no pool of labelled rows"):
        pool_of(asked, config("data/train.jsonl"), tmp_path)
    (tmp_path / "pool.jsonl").touch()
    assert pool_of(asked, config("dataset/x"), tmp_path) == tmp_path / "pool.jsonl"
    (tmp_path / "data" / "pool.csv").touch()
    assert pool_of(asked, config("data"), tmp_path) == tmp_path / "data" / "pool.csv"
    named = asked_of(Options(pool="data/pool.csv"), FeedbackSection())
    assert pool_of(named, config("x.jsonl"), tmp_path) == tmp_path / "data" / "pool.csv"


def test_who_asks_a_teacher_needs_a_pool_for_a_control_alone(tmp_path: Path) -> None:
    options = Options(generator="teacher", teacher="wise")
    assert pool_of(asked_of(options, FeedbackSection()), config("x.jsonl"), tmp_path) is None
    controlled = Options(generator="teacher", teacher="wise", control=True)
    with pytest.raises(ConfigError, match="no pool of labelled rows"):
        pool_of(asked_of(controlled, FeedbackSection()), config("x.jsonl"), tmp_path)
