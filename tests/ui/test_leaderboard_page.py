from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from nexa.core.records import Interval
from nexa.ui.leaderboard import Entry
from nexa.ui.leaderboard_page import (
    AXES,
    Sample,
    View,
    board_json,
    choose,
    render_boards,
    sample_of,
    told_agreement,
    told_difference,
    told_front,
    told_missing,
    told_score,
    write_board_page,
)
from nexa.ui.leaderboard_rank import boards, front
from tests.ui.entry import ENTRY
from tests.ui.test_report import parsed

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
SAMPLE = Sample("row1", "gases", "What is it?", "neon", "argon", "", 0.5, 2)
HALF = Interval(mean=0.5, low=0.25, high=0.75, n=12, groups=6)
DARK = "--blink-settings=preferredColorScheme=0"
CHROMIUM = shutil.which("chromium")


def entries() -> list[Entry]:
    teacher = replace(
        ENTRY,
        model="wise",
        model_digest="b" * 64,
        role="teacher",
        origin="api:openai",
        ruler="r",
        seal="7" * 64,
        verdict="",
        mean=0.9,
        high=1.0,
        missing=2,
        bound_low=0.75,
        bound_high=0.95,
        safety_score=0.875,
        red_flag_count=3,
        latency_s_p50=1.5,
        latency_s_p95=3.0,
        cost_usd_per_1000_prompts=4.25,
        cost_source="a list of prices",
        human_agreement=0.625,
        human_agreement_of="alpha, 8 rows",
    )
    tuned = replace(
        ENTRY,
        ruler="r",
        origin="export:abcd",
        latency_s_p50=0.25,
        latency_s_p95=0.5,
        cost_usd_per_1000_prompts=0.125,
        cost_source="own machine",
    )
    base = replace(
        tuned,
        model="base",
        role="base",
        origin="folder",
        model_digest="c" * 64,
        verdict="",
        mean=0.25,
        low=0.0,
        high=0.5,
        latency_s_p50=0.75,
        cost_usd_per_1000_prompts=None,
        cost_source="no price",
    )
    leaky = replace(
        tuned,
        model="leaky",
        model_digest="d" * 64,
        verdict="contaminated",
        contaminated_rows=2,
        contaminated_ids=("row1", "row2"),
        contaminated_mean=1.0,
        clean_mean=0.375,
        clean_low=0.25,
        clean_high=0.5,
    )
    return [teacher, tuned, base, leaky]


def view(*of: Entry) -> View:
    [board] = boards(of or entries())
    first, *_ = board.entries
    return View(
        board=board,
        fronts=tuple(front(board, axis) for axis in AXES),
        parts={"task": "json_record", "judge prompt": "aaaa"},
        against={board.entries[-1].key: HALF},
        against_model="base",
        domains={first.key: {"gases": HALF, "metals": HALF}, board.entries[1].key: {"gases": HALF}},
        hazards={first.key: {"toxic": 3}},
        samples={first.key: [SAMPLE]},
    )


def test_the_page_is_whole_html_that_runs_nothing_and_asks_the_network_for_nothing(
    tmp_path: Path,
) -> None:
    write_board_page(tmp_path / "board.html", [view()], ["a note"])

    html = (tmp_path / "board.html").read_text()
    tags = parsed(html)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags.seen}
    assert not re.search(r"https?://|url\(|@import", html)
    assert not any(name.startswith("on") for _, attrs in tags.seen for name in attrs)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert "a note" in tags.text


def test_it_tells_ranks_costs_safety_domains_how_it_was_scored_and_answers() -> None:
    text = parsed(render_boards([view()])).text

    for told in (
        "elements@v1: exact",
        "0.900",
        "0.250 to 1.000",
        "0.750 to 0.950",  # what the missing scores could make of it
        "1.5 / 3",
        "4.25",
        "a list of prices; the judge's agreement with people: 0.62 (alpha, 8 rows)",
        "minus base",
        "api:openai",
        "toxic 3",
        "json_record",
        "judge prompt",
        "What is it?",
        "2 red flags",
        "dominated by tiny",
        "base (no price)",
        "the decoding below is that of the local models",
    ):
        assert told in text, told
    assert "export:abcd" not in text


def test_contaminated_models_stand_below_with_their_clean_score_and_rows() -> None:
    text = parsed(render_boards([view()])).text

    below = text[text.index("Set apart: contaminated") :]
    for told in ("leaky", "0.375 [0.250, 0.500]", "1.000", "row1, row2"):
        assert told in below
    assert "leaky" not in text[: text.index("Set apart: contaminated")]


def test_whatever_names_and_answers_hold_is_shown_as_text() -> None:
    evil = replace(
        entries()[0],
        model=HOSTILE,
        suite=HOSTILE,
        metric=HOSTILE,
        seal=HOSTILE,
        origin=HOSTILE,
        cost_source=HOSTILE,
        contaminated_rows=0,
    )
    leaky = replace(evil, contaminated_rows=1, contaminated_ids=(HOSTILE,), model_digest="e")
    [board] = boards([evil, leaky, replace(evil, model_digest="f", cost_usd_per_1000_prompts=None)])
    key = board.entries[0].key
    page = View(
        board=board,
        fronts=tuple(front(board, axis) for axis in AXES),
        parts={HOSTILE: HOSTILE},
        against_model=HOSTILE,
        domains={key: {HOSTILE: HALF, "b": HALF}},
        hazards={key: {HOSTILE: 1}},
        samples={
            key: [Sample(*[HOSTILE] * 6, 0.5, 1), replace(SAMPLE, answer=None, problem=HOSTILE)]
        },
    )

    html = render_boards([page], [HOSTILE])

    assert "<script" not in html
    assert "<img" not in html
    assert not any(n.startswith("on") for _, attrs in parsed(html).seen for n in attrs)
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20


def test_equal_input_gives_equal_bytes() -> None:
    assert render_boards([view()]) == render_boards([view()])


def test_a_page_says_what_it_does_not_have() -> None:
    bare = replace(ENTRY, contaminated_rows=1, contaminated_ids=())
    [board] = boards([bare])
    empty = View(board=board, fronts=tuple(front(board, axis) for axis in AXES), parts={})

    text = parsed(render_boards([empty])).text

    assert "no model without contamination" in text
    assert "The records of these scores are not here" in text
    assert "by domain" not in text
    assert "No board." in parsed(render_boards([])).text


def test_an_answer_that_is_blank_or_was_never_given_is_told_so() -> None:
    [board] = boards([ENTRY])
    samples = [
        replace(SAMPLE, answer=" \n", score=None),
        replace(SAMPLE, answer=None, problem="refused", red_flags=1),
        replace(SAMPLE, answer=None, domain="", red_flags=0),
    ]
    page = View(board=board, fronts=(), parts={}, samples={ENTRY.key: samples})

    text = parsed(render_boards([page])).text

    assert "nothing but white space" in text
    assert "exact missing" in text
    assert "no answer: refused" in text
    assert "1 red flag" in text


def test_as_data_a_board_has_ranks_what_is_apart_and_who_dominates_whom() -> None:
    data = board_json(view())

    assert [(row["rank"], row["model"], row["tied_by"]) for row in data["ranked"]] == [
        (1, "wise", None),
        (1, "tiny", "overlap of intervals"),
        (1, "base", "overlap of intervals"),
    ]
    assert [row["model"] for row in data["contaminated"]] == ["leaky"]
    assert data["contaminated"][0]["against"]["mean"] == 0.5
    cost, latency = data["fronts"]
    assert [row["model"] for row in cost["front"]] == ["wise", "tiny"]
    assert [(row["model"], row["why"]) for row in cost["not_known"]] == [("base", "no price")]
    assert [(row["model"], row["by"][0]["model"]) for row in latency["dominated"]] == [
        ("base", "tiny")
    ]
    assert data["ranked"][0]["samples"][0]["answer"] == "argon"
    assert data["ranked"][0]["domains"]["gases"]["mean"] == 0.5


def test_a_tie_that_was_paired_tells_by_how_much() -> None:
    one, other = entries()[1:3]
    [board] = boards([one, other], paired=lambda _, __: HALF)

    data = board_json(View(board=board, fronts=(), parts={}))

    assert data["ranked"][1]["behind"]["low"] == 0.25


def test_the_front_in_words_names_what_is_not_known_and_why() -> None:
    cost, latency = (told_front(one) for one in view().fronts)

    assert cost == [
        "Quality and cost (dollars for 1,000 prompts): on the front wise (0.900 at 4.25), "
        "tiny (0.500 at 0.125)",
        "not known in dollars for 1,000 prompts, so on no front: base (no price)",
    ]
    assert latency[1].startswith("base (0.250 at 0.75) is dominated by tiny")
    [board] = boards([ENTRY])
    assert told_front(front(board, "latency_s_p50")) == [
        "not known in seconds a prompt, median, so on no front: tiny"
    ]


def test_numbers_that_are_not_known_are_never_zero() -> None:
    assert told_score(None, None, None) == "-"
    assert told_score(0.5, None, None) == "0.500"
    assert told_missing(ENTRY) == "-"
    assert told_missing(replace(ENTRY, missing=0)) == "0"
    assert told_missing(replace(ENTRY, missing=2)) == "2"
    assert told_missing(entries()[0]) == "2 (mean 0.750 to 0.950)"
    assert told_agreement(ENTRY) == ""
    assert told_difference(HALF) == "+0.500 [+0.250, +0.750]"


def test_answers_to_read_are_drawn_by_a_seed_those_with_red_flags_first() -> None:
    rows = [{"id": f"row{i}", "red_flag_count": int(i == 7)} for i in range(20)]

    drawn = choose(rows, 5, seed=0)

    assert drawn[0]["id"] == "row7"
    assert choose(list(reversed(rows)), 5, seed=0) == drawn
    assert choose(rows, 5, seed=1) != drawn
    unflagged = [{**row, "red_flag_count": 0} for row in rows]
    assert {r["id"] for r in drawn[1:]} <= {r["id"] for r in choose(unflagged, 5, seed=0)}


def test_a_sample_is_a_question_a_target_and_an_answer_cut_to_a_length() -> None:
    prompt = {
        "id": "row1",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "hidden"},
        ],
        "target": {"name": "é"},
    }

    made = sample_of(prompt, {"text": "x" * 5000}, {"exact": 1.0, "red_flag_count": 2}, "exact")
    none = sample_of(
        {**prompt, "target": "t", "domain": "d"}, {"text": None, "problem": "late"}, {}, "exact"
    )

    assert made.question == "Be short.\n\nWhy?"
    assert made.target == '{"name": "é"}'
    assert made.answer is not None
    assert made.answer.endswith("x …")
    assert len(made.answer) < 2000
    assert (made.score, made.red_flags) == (1.0, 2)
    assert (none.answer, none.problem, none.score, none.red_flags) == (None, "late", None, 0)
    assert (none.target, none.domain) == ("t", "d")
    likely = sample_of(prompt, {"text": None, "log_likelihoods": [-1.0]}, {}, "exact")
    assert likely.answer == "log-likelihoods in nats: -1.00"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_shows_it_in_light_and_dark_and_prints_it(tmp_path: Path) -> None:
    write_board_page(tmp_path / "board.html", [view()])
    address = (tmp_path / "board.html").as_uri()
    common = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,900"]
    common.append(f"--user-data-dir={tmp_path / 'profile'}")
    for name, flags in {"light": [], "dark": [DARK]}.items():
        picture = tmp_path / f"{name}.png"
        subprocess.run(
            [*common, *flags, f"--screenshot={picture}", address], check=True, capture_output=True
        )
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "light.png").read_bytes() != (tmp_path / "dark.png").read_bytes()
    printed = tmp_path / "board.pdf"
    subprocess.run([*common, f"--print-to-pdf={printed}", address], check=True, capture_output=True)
    assert printed.read_bytes().startswith(b"%PDF")
    tree = subprocess.run([*common, "--dump-dom", address], check=True, capture_output=True)
    assert b"Set apart: contaminated" in tree.stdout
