from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nexa.core import events
from nexa.core.events import Event
from nexa.lm.hub_progress import BYTES_BAR, Download


def test_bytes_that_come_in_several_threads_make_one_bar() -> None:
    heard: list[Event] = []
    with events.listening(heard.append):
        download = Download("org/name")
        with download.watched() as bar, ThreadPoolExecutor(4) as threads:
            counting = bar(name=BYTES_BAR, total=4e6)
            list(threads.map(counting.update, [1e6] * 4))
    kinds = [event["kind"] for event in heard]
    assert kinds == ["progress.start", *["progress"] * 4, "progress.end"]
    assert [event["done"] for event in heard[1:]] == [1, 2, 3, 4, 4]
    assert heard[-1]["total"] == 4


def test_what_the_cache_has_makes_no_bar() -> None:
    heard: list[Event] = []
    download = Download("org/name")
    with events.listening(heard.append), download.watched() as bar:
        bar(name="files", total=3).update(1)
    assert heard == []
    assert download.online
