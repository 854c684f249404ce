from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from nexa.core.interrupts import Interrupted, awaited, deferring, stoppable


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """As a process in a terminal has them, whatever the tests themselves were started by."""
    before = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        )
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGINT, 130, "interrupted by the user"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_either_signal_stops_at_once_with_its_own_exit_code(
    number: int, code: int, reason: str
) -> None:
    with pytest.raises(Interrupted) as caught, stoppable():
        send(number)
    assert (caught.value.exit_code, caught.value.reason) == (code, reason)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_is_noted_and_the_work_goes_on(number: int) -> None:
    with deferring() as stop:
        assert stop.asked is None
        send(number)
        assert stop.asked == number
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_second_ctrl_c_stops_at_once_and_a_second_sigterm_waits() -> None:
    with deferring() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert stop.asked == signal.SIGTERM
        with pytest.raises(Interrupted):
            send(signal.SIGINT)


def test_what_was_in_place_before_is_in_place_again() -> None:
    with stoppable():
        outer = signal.getsignal(signal.SIGTERM)
        with deferring():
            assert signal.getsignal(signal.SIGTERM) is not outer
        assert signal.getsignal(signal.SIGTERM) is outer


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferring() as stop:
        send(signal.SIGINT)
    assert stop.asked is None


def test_another_thread_leaves_the_handlers_alone() -> None:
    seen = []

    def work() -> None:
        with deferring():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_signal_that_another_thread_gets_ends_a_wait_as_well() -> None:
    future: Future[str] = Future()
    done = threading.Event()

    def work() -> None:
        time.sleep(0.05)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        done.wait(60)
        future.set_result("too late")

    thread = threading.Thread(target=work)
    thread.start()
    with stoppable(), pytest.raises(Interrupted, match="SIGTERM"):
        awaited(future)
    assert not future.done()
    done.set()
    thread.join()


def test_a_wait_ends_with_the_result_with_the_error_or_when_its_time_is_over() -> None:
    future: Future[str] = Future()
    with pytest.raises(TimeoutError, match=r"no result after 0\.01 s"):
        awaited(future, most_s=0.01)
    future.set_result("so")
    assert awaited(future, most_s=0) == "so"
    failed: Future[str] = Future()
    failed.set_exception(ValueError("not so"))
    with pytest.raises(ValueError, match="not so"):
        awaited(failed)
