"""The whole flow, behind a real pseudo-terminal."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nexa.cli.main import main
from nexa.cli.wizard.answers import Answers, Commands
from nexa.cli.wizard.guided import Stopped, follow
from nexa.publish.verify import verify_folder
from tests.cli.wizard import terminal as ask
from tests.cli.wizard.terminal import Screen, everything
from tests.cli.wizard.typed import Person
from tests.session.processes import server_pid, short_folder
from tests.support.hub_emulator import HubEmulator
from tests.support.project import rows, write_rows

GOOD = "hf_" + "guided" * 6
WRONG = "hf_" + "wrongs" * 6


def new_folder(place: Path, model: Path) -> Path:
    """What a beginner has: a model folder and a file of rows."""
    shutil.copytree(model, place / "tiny-llama")
    write_rows(place / "rows" / "elements.jsonl", rows(range(40)))
    return place


@pytest.fixture
def folder(tmp_path: Path, tiny_llama: Path) -> Path:
    return new_folder(tmp_path / "project", tiny_llama)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with short_folder() as place:
        monkeypatch.setenv("NEXA_RUNTIME", str(place))
        yield place


def commands_told(text: str) -> list[str]:
    """The commands at the end that repeat the run."""
    tail = text.partition("The same again")[2]
    return re.findall(r"^  (nexa .*)$", tail, re.M)


def test_a_new_user_comes_from_questions_to_a_published_folder_and_the_commands_repeat_it(
    folder: Path, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every question once with a wrong answer, then with a good one; 100 columns, in colour."""
    write_rows(folder / "bad.jsonl", [])
    screen = Screen(folder, ["-m", "nexa"])
    before = everything(tmp_path)
    screen.answer(ask.TOKEN, "not a token")
    screen.answer(ask.TOKEN, "")
    screen.answer(ask.MODEL, "./no-such-model")
    screen.answer(ask.MODEL, "99")
    screen.answer(ask.MODEL, "\x1bOA")
    screen.answer(ask.MODEL, "tiny-llama")
    screen.answer(ask.DATA, "bad.jsonl")
    screen.answer(ask.DATA, "rows/nothing.jsonl")
    screen.answer(ask.DATA, "1")
    screen.answer(ask.NAME, "two words")
    screen.answer(ask.NAME, "mine")
    screen.answer(ask.METHOD, "prefix")
    screen.answer(ask.METHOD, "")
    screen.answer(ask.MODE, "moon")
    screen.answer(ask.MODE, "")
    screen.answer(ask.SHARE, "150%")
    screen.answer(ask.SHARE, "25%")
    screen.answer(ask.PUBLISH, "hub")
    screen.answer(ask.PUBLISH, "")
    screen.answer(ask.REPO, "no-owner")
    screen.answer(ask.REPO, "")
    screen.answer(ask.START, "perhaps")
    screen.wait(ask.START)
    assert everything(tmp_path) == before
    screen.child.sendline("")
    assert screen.end() == 0
    for reason in (
        "that is no token: a blank",
        "there is no model './no-such-model'",
        "there is no number 99",
        "characters that cannot be shown",
        "bad.jsonl is empty",
        "there is no rows/nothing.jsonl",
        "'two words' cannot be the name of a model",
        "'prefix' is none of the choices",
        "'moon' is none of the choices",
        "the share for evaluation should be above 0",
        "'hub' is none of the choices",
        "should be owner/name",
        "'perhaps' is neither yes nor no",
        "40 of the first 40 rows",
    ):
        assert reason in screen.text, reason
    verify_folder(folder / ".nexa" / "hub" / "you" / "mine")

    again = new_folder(tmp_path / "again", tiny_llama)
    monkeypatch.chdir(again)
    told = commands_told(screen.text)
    assert len(told) == 4
    for line in told:
        assert main([*shlex.split(line)[1:], "-q"]) == 0
    assert (again / "config.yaml").read_bytes() == (folder / "config.yaml").read_bytes()
    ours, theirs = (
        json.loads((place / "output" / "mine" / "final_model.json").read_text())
        for place in (folder, again)
    )
    assert ours["files"]["model.safetensors"] == theirs["files"]["model.safetensors"]


# -- stopping ------------------------------------------------------------------------------------

MODEL = "--base tiny-llama"
DATA = f"{MODEL} --data rows/elements.jsonl"
NAME = f"{DATA} --name mine"
METHOD = f"{NAME} --method lora"
MODE = f"{METHOD} --mode local"
SHARE = f"{MODE} --eval-fraction 0.2"
LOCAL = f"{SHARE} --publish local"
HUB = f"{SHARE} --publish hub"
# Where it is stopped: the flags that answer what comes before, and the question.
QUESTIONS = {
    "token": ("", None),
    "model": ("", ask.MODEL),
    "source": ("--base smollm2-135m", ask.SOURCE),
    "data": (MODEL, ask.DATA),
    "name": (DATA, ask.NAME),
    "method": (NAME, ask.METHOD),
    "mode": (METHOD, ask.MODE),
    "share": (MODE, ask.SHARE),
    "publish": (SHARE, ask.PUBLISH),
    "repository": (LOCAL, ask.REPO),
    "hub repository": (HUB, ask.REPO),
    "private": (f"{HUB} --repo tester/mine", ask.PRIVATE),
    "start": (f"{LOCAL} --repo you/mine", ask.START),
}


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path
) -> Iterator[tuple[Screen, Path, Path]]:
    """One interpreter behind a terminal, with a Hub: (screen, its folder, the runtime folder)."""
    place = tmp_path_factory.mktemp("stopped")
    folder = new_folder(place / "project", tiny_llama)
    with short_folder() as runtime, HubEmulator() as hub:
        hub.add_token(GOOD, name="tester")
        away = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "NEXA_RUNTIME": str(runtime)}
        own = {"NEXA_CACHE": str(place / "cache"), "HF_HOME": str(place / "hf")}
        screen = Screen(folder, ["-m", "tests.cli.wizard.again"], environment={**away, **own})
        yield screen, place, runtime
        screen.answer("ready> ", "enough")
        assert screen.end() == 0


@pytest.mark.parametrize("key", ["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_stopped_at_any_question_it_leaves_nothing_behind(
    world: tuple[Screen, Path, Path], question: str, key: str
) -> None:
    screen, place, runtime = world
    flags, prompt = QUESTIONS[question]
    before = everything(place)
    screen.answer("ready> ", f"again {flags}")
    screen.wait(ask.TOKEN)
    if prompt is not None:
        screen.child.sendline(GOOD)
        screen.wait(prompt)
    if key == "Ctrl-C":
        screen.child.sendintr()
    else:
        screen.child.sendeof()
    told = screen.wait(r"exit code \d+, echo \w+")
    assert told.endswith("exit code 130, echo on")
    assert re.findall(r"stopped[^\x1b\r]*", told) == ["stopped; nothing was written"]
    assert "Traceback" not in told
    assert everything(place) == before
    assert server_pid(runtime) is None
    assert GOOD not in screen.raw


def test_sigterm_at_the_hidden_question_gives_the_terminal_back(
    world: tuple[Screen, Path, Path],
) -> None:
    screen, place, _ = world
    before = everything(place)
    screen.answer("ready> ", "again")
    screen.wait(ask.TOKEN)
    screen.child.kill(signal.SIGTERM)
    assert "stopped; nothing was written" in screen.wait("exit code 143, echo on")
    assert everything(place) == before


def test_a_no_at_the_end_and_a_config_that_is_kept_leave_nothing_behind(
    world: tuple[Screen, Path, Path],
) -> None:
    screen, place, runtime = world
    config = place / "project" / "config.yaml"
    screen.answer("ready> ", f"again {LOCAL} --repo you/mine")
    screen.answer(ask.TOKEN, "")
    screen.answer(ask.START, "n")
    assert "not started; nothing was written" in screen.wait("exit code 130, echo on")
    config.write_text("model: {path: other}\n")
    before = everything(place)
    for answer in ("3", "\x04", "\x03"):
        screen.answer("ready> ", f"again {LOCAL} --repo you/mine")
        screen.answer(ask.TOKEN, GOOD)
        screen.answer(ask.START, "")
        assert "-model: {path: other}" in screen.wait(ask.EXISTING)
        screen.child.send(answer + "\n" * answer.isdecimal())
        screen.wait("nothing was written")
        screen.wait("exit code 130, echo on")
        assert everything(place) == before
        assert server_pid(runtime) is None
    config.unlink()


def test_a_wrong_an_expired_and_a_revoked_token_are_told_and_asked_again(
    world: tuple[Screen, Path, Path],
) -> None:
    screen, _, _ = world
    screen.answer("ready> ", "again")
    screen.answer(ask.TOKEN, WRONG)
    assert "the Hub does not know this token" in screen.wait(ask.TOKEN)
    screen.child.sendline(GOOD)
    assert f"{GOOD[:5]}...{GOOD[-4:]} of tester (write)" in screen.wait(ask.MODEL)
    screen.child.sendeof()
    screen.wait("exit code 130")
    assert WRONG not in screen.raw


# -- the Hub, narrow terminals, hostile files ----------------------------------------------------


def test_with_a_token_it_ends_on_the_hub_in_forty_columns_without_colours(
    folder: Path, runtime: Path, hub_emulator: HubEmulator
) -> None:
    hub_emulator.add_token(GOOD, name="tester")
    steering = "\x1b]0;owned\x07\x1b[2J\u202egnissim \x9b31m"
    evil = [{**row, "context": steering + row["context"]} for row in rows(range(40))]
    write_rows(folder / "a" / "evil.jsonl", evil)
    (folder / "a" / "\x1b[31mred.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    screen = Screen(folder, ["-m", "nexa"], columns=40, environment={"NO_COLOR": "1"})
    screen.answer(ask.TOKEN, GOOD)
    screen.answer(ask.MODEL, "tiny-llama")
    screen.answer(ask.DATA, "a/evil.jsonl")
    screen.answer(ask.NAME, "")
    screen.answer(ask.METHOD, "full")
    screen.answer(ask.MODE, "")
    screen.answer(ask.SHARE, "0.3")
    screen.answer(ask.PUBLISH, "")
    screen.answer(ask.REPO, "someone-else/it")
    assert "may not write there" in screen.wait(ask.PUBLISH)
    screen.child.sendline("hub")
    screen.answer(ask.REPO, "")
    screen.answer(ask.PRIVATE, "")
    asked = screen.answer(ask.START, "")
    assert f"{GOOD[:5]}...{GOOD[-4:]}" in asked
    assert screen.end() == 0
    assert GOOD not in screen.raw
    assert not re.search("\x1b\\]|\x1b\\[2J|\x07|\u202e|\x9b", screen.raw)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen.raw)  # no colours
    assert r"\u001b]0;owned" in screen.text
    assert "red.jsonl" not in screen.text
    assert "config.json" in hub_emulator.files("tester/tiny-llama-evil")
    assert hub_emulator.repo("tester/tiny-llama-evil").private
    line = f"nexa publish --repo tester/tiny-llama-evil --hub {hub_emulator.url} --private"
    assert line in screen.text.partition("The same again")[2]
    assert main(["logout", "-q"]) == 0


def test_ctrl_c_ends_the_process_itself_with_130(folder: Path) -> None:
    screen = Screen(folder, ["-m", "nexa"])
    screen.wait(ask.TOKEN)
    screen.child.sendintr()
    assert screen.end() == 130
    assert screen.text.splitlines()[-1] == "stopped; nothing was written"


# -- the same, typed by nobody ---------------------------------------------------------------------


FLAG_NAMES = "base base_source data name method mode eval_fraction publish repo private existing"
NOT_GIVEN = dict.fromkeys(FLAG_NAMES.split())


def test_what_is_summed_up_is_what_was_answered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    monkeypatch.chdir(folder)
    write_rows(folder / "both" / "train.jsonl", rows(range(40)))
    write_rows(folder / "both" / "eval.jsonl", rows(range(100, 110)))
    person = Person("", "tiny-llama", "1", "mine", "full", "", "no", "n")
    with pytest.raises(Stopped, match="not started; nothing was written"):
        follow(person, dict(NOT_GIVEN), folder)
    for line in (
        "  base model  tiny-llama\n",
        "  data        ./both\n",
        "  held out    a file of the data\n",
        "  method      full\n",
        "  output      ./output/mine\n",
        "  publish     no\n",
        "  Hub token   none\n",
    ):
        assert line in person.seen


def test_a_config_that_differs_is_shown_before_it_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path
) -> None:
    monkeypatch.chdir(folder)
    (folder / "config.yaml").write_text("model: {path: ./none}\n")
    person = Person("", "tiny-llama", "1", "mine", "", "", "", "", "", "", "quit")
    with pytest.raises(Stopped, match="is left as it was"):
        follow(person, dict(NOT_GIVEN), folder)
    assert "-model: {path: ./none}" in person.seen
    assert "+  path: ./tiny-llama" in person.seen
    with pytest.raises(Stopped) as caught:
        follow(Person("", "tiny-llama"), dict(NOT_GIVEN), folder)
    assert str(caught.value) == "stopped; nothing was written"
    assert isinstance(caught.value.__cause__, EOFError)


def test_the_session_gets_a_typed_token_once_everything_is_confirmed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, runtime: Path, hub_emulator: HubEmulator
) -> None:
    hub_emulator.add_token(GOOD, name="tester")
    monkeypatch.chdir(folder)
    (folder / "config.yaml").write_text("model: {path: ./none}\ndata: {train_path: none.jsonl}\n")
    person = Person(GOOD, "tiny-llama", "1", "mine", "", "", "", "no", "", "use")
    with pytest.raises(click.exceptions.Exit):
        follow(person, dict(NOT_GIVEN), folder)
    assert "kept in memory by the session" in person.seen
    assert server_pid(runtime) is not None
    assert main(["logout", "-q"]) == 0


# -- without a terminal --------------------------------------------------------------------------


def test_in_a_pipe_it_is_help_and_the_guide_says_that_nobody_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: nexa")
    assert main(["guide"]) == 2
    assert "standard input or output is no terminal" in capsys.readouterr().err
    assert main(["guide", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["found"] == "--json"


FLAGS = shlex.split(f"{MODE} --eval-fraction 0.25 --publish local --repo you/mine --yes")


def test_with_every_flag_it_asks_nothing_and_gives_one_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["guide", *FLAGS, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record["results"]) == ["init", "check", "train", "publish"]
    assert record["commands"][0].startswith("nexa init --base tiny-llama")
    assert record["answers"]["eval_fraction"] == 0.25
    verify_folder(folder / ".nexa" / "hub" / "you" / "mine")


def test_what_no_flag_and_no_default_answers_is_named(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["guide", "--yes", "--base", str(tiny_llama)]) == 2
    assert "give it by flag: --data" in capsys.readouterr().err
    assert everything(tmp_path) == {}


def test_a_config_that_differs_is_replaced_or_used_by_flag_and_kept_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    config = folder / "config.yaml"
    config.write_text("model: {path: ./none}\ndata: {train_path: none.jsonl}\n")
    words = ["guide", *FLAGS, "-q"]
    assert main(words) == 2
    assert "--existing replace, or --existing use" in capsys.readouterr().err
    assert main([*words, "--existing", "use"]) == 4
    told = capsys.readouterr()
    assert "Still to be done" in told.out
    assert "nexa init" not in told.out
    assert "publish --repo you/mine --hub local ./output" in told.out
    monkeypatch.setattr("nexa.cli.wizard.answers.Answers.commands", only_init)
    assert main([*words, "--existing", "replace"]) == 0
    assert "path: ./tiny-llama" in config.read_text()


def only_init(answers: Answers, **_: object) -> Commands:
    return [answers._init()]
