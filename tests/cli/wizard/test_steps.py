from __future__ import annotations

import io
import json
from pathlib import Path

import click
import pytest

from nexa.cli.show import Output
from nexa.cli.wizard import steps
from nexa.core.errors import ConfigError, ModelError
from nexa.core.events import listening
from tests.cli.wizard.test_answers import ANSWERS
from tests.support.project import Finished

CONFIG = "model: {path: ./none}\ndata: {train_path: none.jsonl}\ntraining: {output_dir: ./mine}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_a_step_that_fails_is_followed_by_what_is_still_to_be_done(folder: Path) -> None:
    screen = io.StringIO()
    (folder / "config.yaml").write_text(CONFIG)
    with pytest.raises(click.exceptions.Exit) as caught:
        steps.run(Output(stdout=screen, terminal=False), ANSWERS, folder, keep_config=True)
    assert caught.value.exit_code == 4
    assert screen.getvalue() == (
        "\n$ nexa check\n\n"
        "Still to be done, once that is mended:\n"
        "  nexa check\n  nexa train\n"
        "  nexa publish --repo you/mine --hub local ./mine\n"
    )


def test_an_error_of_a_step_passes_on(folder: Path) -> None:
    screen = io.StringIO()
    missing = vars(ANSWERS) | {"base": "./none", "source": "auto"}
    with pytest.raises(ModelError):
        steps.run(Output(stdout=screen, terminal=False), type(ANSWERS)(**missing), folder)
    assert "\n  nexa init --base ./none" in screen.getvalue()
    assert list(folder.iterdir()) == []


def test_a_config_that_is_kept_has_to_be_one(folder: Path) -> None:
    (folder / "config.yaml").write_text("nonsense")
    with pytest.raises(ConfigError):
        steps.run(Output(), ANSWERS, folder, keep_config=True)


@pytest.mark.parametrize(("verbosity", "told"), [(-1, False), (0, True), (1, True)])
def test_steps_are_as_loud_as_the_guide_and_bring_their_own_bars(
    project: Finished, capsys: pytest.CaptureFixture[str], verbosity: int, told: bool
) -> None:
    events: list[dict[str, object]] = []
    with listening(events.append):
        steps._run(Output(verbosity=verbosity), ["publish", "--repo", "you/mine", "--hub", "local"])
    out, err = capsys.readouterr()
    assert "Published: " in out
    assert ("Publishing" in err) is told
    assert events == []


def test_a_step_gives_its_record_where_json_is_wanted(
    project: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "--repo", "you/mine", "--hub", "local"]
    record = steps._run(Output(as_json=True), words)
    assert "you/mine" in json.dumps(record)
    assert capsys.readouterr().out == ""
