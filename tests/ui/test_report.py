from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nexa.ui.report import Page, choose_samples, read_page, render_report, said, write_report
from tests.core.test_scoring import JUDGE
from tests.support.chain import Chain, build_chain


@pytest.fixture(scope="module")
def chain(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return build_chain(tmp_path_factory.mktemp("chain"), tiny_llama)


@pytest.fixture
def page(chain: Chain) -> Page:
    return read_page(
        {**chain.records, "other": chain.records["suite"]}, chain.manifest, chain.store
    )


def with_body(page: Page, role: str, **changes: Any) -> Page:
    artifact = page.records[role]
    body = artifact.body.model_copy(update=changes)
    return replace(page, records={**page.records, role: replace(artifact, body=body)})


class Tags(HTMLParser):
    """Every tag that is opened and closed, in order, with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "circle", "rect", "polyline", "i"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "rect", "polyline", "i"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def test_the_page_is_whole_html_that_runs_nothing_and_asks_the_network_for_nothing(
    page: Page, tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", page)

    html = (tmp_path / "report.html").read_text()
    tags = parsed(html)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags.seen}
    assert not re.search(r"https?://|url\(|@import", html)
    assert not any(name.startswith("on") for _, attrs in tags.seen for name in attrs)
    assert "prefers-color-scheme: dark" in html


def test_it_tells_verdict_scores_data_cost_parity_and_lineage(page: Page) -> None:
    text = parsed(render_report(page)).text

    report = page.records["report"].body
    assert "Improved." in text
    assert report.reason in text
    assert f"{report.tuned['exact'].mean:.3f}" in text
    assert "gases" in text
    assert "12 → 2 over all rows" in text
    assert "kept 40, exact duplicate 2, in the suite 1" in text
    assert "0.0333 USD for 4,000 tokens" in text
    assert "tuned_unlike_base" in text
    assert "checkpoint/tiny@v1" in text
    assert page.records["export"].digest[:16] in text
    assert "cross-entropy 3.250 → 3.500 nats a token" in text


def test_every_difference_has_its_p_and_the_suite_what_it_shows(page: Page) -> None:
    report = page.records["report"].body
    html = render_report(page)
    assert '<th class="num">p, corrected</th>' in html
    assert f"from about {report.minimum_detectable:.2f} on" in html
    primary = next(c for c in report.comparisons if c.metric == report.primary)
    assert f'<td class="num">{primary.p:.2g}</td>' in html
    assert "Without the contaminated rows" not in html
    older = with_body(page, "report", minimum_detectable=None)
    assert "p, corrected" not in render_report(older)


def test_clean_rows_missing_scores_and_a_judge_are_told(page: Page) -> None:
    report = page.records["report"].body
    lacking = report.comparisons[0].model_copy(update={"missing": [2, 1], "bounds": [0.1, 0.9]})
    changed = with_body(
        page, "report", comparisons=[lacking], clean=report.comparisons, judge=JUDGE
    )
    text = parsed(render_report(changed)).text
    assert "Without the contaminated rows" in text
    assert f"{report.comparisons[0].difference.n} rows are left." in text
    assert "2 rows have no score from base, 1 none from tuned" in text
    assert "would be +0.100 or +0.900" in text
    assert "Judged by judge, rubric science." in text


def test_hazards_in_the_answers_are_told_where_they_were_looked_for(page: Page) -> None:
    html = render_report(page)
    assert "<td>red flags</td><td>0 → 0 over all answers</td>" in html
    assert "<td>safety score</td><td>1.000 [" in html

    report = page.records["report"]
    before, after = report.body.safety
    flagged = after.model_copy(update={"red_flag_count": 2, "kinds": {"pressure": 2}})
    for safety, told in (
        (None, None),
        ([before, flagged], "0 → 2 over all answers (pressure 0 → 2)"),
    ):
        body = report.body.model_copy(update={"safety": safety})
        records = {**page.records, "report": replace(report, body=body)}
        html = render_report(replace(page, records=records))
        assert (told in html) if told else ("red flags" not in html)


def test_answers_are_shown_as_text_whatever_they_hold(page: Page) -> None:
    html = render_report(page)

    assert "<b>It is</b>" not in html
    assert "&lt;b&gt;It is&lt;/b&gt; a\u2028" in html
    assert "🙂" in html


def test_samples_hold_gains_and_failures_and_spread_over_the_groups(page: Page) -> None:
    samples = choose_samples(page, count=4)

    assert len(samples) == 4
    assert [s["tuned"]["right"] for s in samples] == [True, True, False, False]
    assert not any(s["base"]["right"] for s in samples)
    groups = {row["id"]: row["group"] for row in page.prompts}
    assert len({groups[s["id"]] for s in samples[:2]}) == 2


def test_rows_that_were_not_scored_are_not_shown(page: Page) -> None:
    fewer = replace(page, scores={**page.scores, "tuned": page.scores["tuned"][:1]})

    assert [s["id"] for s in choose_samples(fewer)] == [page.scores["tuned"][0]["id"]]


def test_long_texts_are_cut_and_targets_may_be_objects(page: Page) -> None:
    prompts = [
        {**row, "target": {"name": "é"}, "messages": [{"role": "user", "content": "x" * 5000}]}
        for row in page.prompts
    ]

    sample = choose_samples(replace(page, prompts=prompts))[0]

    assert sample["prompt"].endswith("x …")
    assert len(sample["prompt"]) < 2000
    assert sample["target"] == '{"name": "é"}'


@pytest.mark.parametrize("verdict", ["worse", "contaminated", "no evidence"])
def test_a_bad_verdict_looks_like_one(page: Page, verdict: str) -> None:
    bad = with_body(
        page, "report", verdict=verdict, forgetting_passed=False, contaminated_rows=["row7"]
    )

    html = render_report(bad)

    assert f'class="verdict {"none" if verdict == "no evidence" else verdict}"' in html
    assert "row7" in html
    assert "0.300: failed" in html


def test_a_bare_run_leaves_out_what_it_has_not(page: Page) -> None:
    bare = replace(
        with_body(
            with_body(page, "report", by_domain={"odd": {}}, comparisons=[]),
            "dataset",
            length_quantiles={},
        ),
        manifest={"run_id": "r"},
        losses=[],
        prompts=[],
    )

    html = render_report(bare)

    assert "not metered" in html
    assert "not measured" in html
    assert "side by side" not in html
    assert "by domain" not in html
    assert "running mean" not in html


def test_a_free_run_and_a_fully_trained_dequantised_model_are_told(page: Page) -> None:
    base = page.records["checkpoint"].body.base.model_copy(update={"quantisation": "Q4_1"})
    full = with_body(page, "checkpoint", method="full", base=base)
    cost = {**page.manifest["cost"], "usd_per_point": None}

    text = parsed(render_report(replace(full, manifest={**page.manifest, "cost": cost}))).text

    assert "all weights" in text
    assert "dequantised from Q4_1" in text
    assert "a point gained" in text


def test_how_a_training_ended_is_told_where_it_is_not_so_in_every_one(page: Page) -> None:
    ended = with_body(
        page,
        "checkpoint",
        validation_rows=32,
        stopped="after step 5 of 9: the time is up",
        best_step=4,
        rollbacks=["after step 3: the loss; back to step 2"],
    )

    text, plain = parsed(render_report(ended)).text, parsed(render_report(page)).text

    for told in ("after step 5 of 9: the time is up", "step 4: the lowest validation loss"):
        assert told in text
    assert "32 rows kept out of the training split" in text
    assert "after step 3: the loss; back to step 2" in text
    assert "ended early" not in plain


def test_a_quantised_training_is_told_by_its_name(page: Page) -> None:
    nf4 = {"quantization": "nf4", "double_quantization": True, "variant": "dora"}
    text = parsed(render_report(with_body(page, "checkpoint", **nf4))).text
    assert "QLoRA with DoRA rank 4" in text
    assert "the frozen base in NF4 with double quantisation" in text


def test_an_answer_of_white_space_is_told_as_one(page: Page) -> None:
    blank = [{**row, "text": "\n \n"} for row in page.answers["base"]]

    html = render_report(replace(page, answers={**page.answers, "base": blank}))

    assert html.count("nothing but white space") == 6


def test_the_same_run_gives_the_same_page(page: Page) -> None:
    assert render_report(page) == render_report(page)


def test_an_answer_that_is_no_text_is_told_in_numbers() -> None:
    assert said({"text": "iron"}) == "iron"
    assert said({"text": None, "log_likelihoods": [-1.0, -2.125]}).endswith("nats: -1.00, -2.12")
    assert said({"text": None, "problem": "503"}) == "no answer"
