from __future__ import annotations

from benchmarks.contest.peer_runs import seen


def test_what_the_meter_wrote_becomes_a_run() -> None:
    step = {"tokens": 9, "padded_tokens": 12, "label_tokens": 4, "loss": 1.5}
    metered = [
        {**step, "began": 108.0, "ended": 110.0},
        {**step, "began": 110.5, "ended": 111.5},
        {"peak_rss_bytes": 7, "versions": {"torch": "2"}},
    ]
    run = seen(metered, begin=100.0)
    assert run["start_to_first_step_s"] == 8.0
    assert [s["seconds"] for s in run["steps"]] == [2.0, 1.0]
    assert (run["peak_rss_bytes"], run["versions"]) == (7, {"torch": "2"})
