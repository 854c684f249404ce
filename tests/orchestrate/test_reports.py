from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import UsageError
from nexa.core.manifest import RunManifest
from nexa.core.records import Interval
from nexa.core.store import UnknownArtifact
from nexa.core.tiers import Tiers
from nexa.orchestrate.reports import difference, find_artifact, scores_of, tabulate, told
from tests.support.project import Finished


def test_a_report_is_a_row_a_metric_with_the_primary_one_first(finished: Finished) -> None:
    body = finished.tiers.store.by_digest(finished.manifest.outputs["report"]).body
    scores = tabulate(body)
    assert scores.rows[0][0] == body.primary
    names = [row[0] for row in scores.rows]
    assert set(names) == {c.metric for c in body.comparisons} | {
        *("stops by itself", "safety score", "red flags", "cross-entropy, general text")
    }
    metric, base, tuned, gain = scores.rows[0]
    assert (base, tuned) == (told(body.base[metric]), told(body.tuned[metric]))
    assert gain.startswith(("+", "-"))
    assert "limit 0.30" in scores.rows[-1][3]
    assert scores.rows[-2] == ["red flags", "0", "0", "+0"]
    assert scores.reason == body.reason
    assert scores.record == body.model_dump(mode="json")


def test_a_report_of_a_version_before_tells_of_no_hazards(finished: Finished) -> None:
    body = finished.tiers.store.by_digest(finished.manifest.outputs["report"]).body
    names = [row[0] for row in tabulate(body.model_copy(update={"safety": None})).rows]
    assert "red flags" not in names


def test_a_difference_has_its_p_and_the_rows_it_lacks(finished: Finished) -> None:
    body = finished.tiers.store.by_digest(finished.manifest.outputs["report"]).body
    c = body.comparisons[0]
    assert difference(c) == f"{told(c.difference, '+')}, p {c.adjusted_p:.2g}"
    lacking = c.model_copy(update={"adjusted_p": None, "missing": [1, 2]})
    assert difference(lacking) == f"{told(c.difference, '+')}, missing 1 and 2"
    rows = tabulate(body.model_copy(update={"clean": [c]})).rows
    assert [f"{c.metric}, clean rows", "", "", difference(c)] in rows


def test_a_run_s_scores_are_those_of_its_report(finished: Finished) -> None:
    assert (
        scores_of(finished.manifest, finished.root).record["verdict"] == finished.manifest.verdict
    )


def test_a_score_is_told_with_its_interval() -> None:
    interval = Interval(mean=0.8125, low=0.7, high=0.9, n=64, groups=20)
    assert told(interval) == "0.812 [0.700, 0.900]"
    assert told(interval, "+") == "+0.812 [+0.700, +0.900]"


def test_an_artifact_is_found_by_name_digest_and_run(finished: Finished) -> None:
    tiers, outputs = finished.tiers, finished.manifest.outputs
    assert find_artifact("dataset/elements@v1", tiers).digest == outputs["dataset"]
    assert find_artifact("suite/elements", tiers).digest == outputs["suite"]
    assert find_artifact(outputs["export"], tiers).digest == outputs["export"]
    assert find_artifact(outputs["export"][:12], tiers).digest == outputs["export"]
    for run in ("latest", finished.manifest.run_id, finished.manifest.run_id[:10]):
        assert find_artifact(run, tiers).digest == outputs["report"]


@pytest.mark.parametrize(
    ("what", "error", "complaint"),
    [
        ("dataset/element", UnknownArtifact, "dataset/elements"),
        ("suite/elements@v9", UnknownArtifact, "no version v9"),
        ("0123456789ab", UnknownArtifact, "no records begin with"),
        ("1999-01-01-000000-0000", UsageError, "there is no run"),
        ("nonsense/name", UsageError, "there is no run"),
    ],
)
def test_a_name_that_nothing_has_is_refused(
    finished: Finished, what: str, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        find_artifact(what, finished.tiers)


def test_a_run_without_a_report_stands_for_the_last_thing_it_made(
    project: Finished,
) -> None:
    outputs = project.manifest.outputs
    for missing, found in (("report", "export"), ("export", "checkpoint"), ("checkpoint", "data")):
        outputs = {role: digest for role, digest in outputs.items() if role != missing}
        write_manifest(project.tiers, outputs)
        assert find_artifact("latest", project.tiers).kind.startswith(found)


def test_a_run_that_made_nothing_says_so(tmp_path: Path) -> None:
    write_manifest(Tiers.of(tmp_path), {})
    with pytest.raises(UsageError, match="made nothing: it is interrupted"):
        find_artifact("latest", Tiers.of(tmp_path))


def write_manifest(tiers: Tiers, outputs: dict[str, str]) -> None:
    manifest = RunManifest(
        run_id="9999-01-02-030405-abcd", run_type="train", status="interrupted", outputs=outputs
    )
    tiers.manifests.mkdir(parents=True, exist_ok=True)
    text = manifest.model_dump_json(by_alias=True)
    (tiers.manifests / f"{manifest.run_id}.json").write_text(text)
