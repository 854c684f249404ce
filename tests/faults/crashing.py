"""A process of Nexa that holds the token and comes to a bad end, telling it to whoever listens.

    python -m tests.faults.crashing EVENT_LOG [--kill]

Every way in which a secret could come into a log is tried on the way: an event, a print, a
warning, a third party's log record, the traceback of a thread, and the last traceback of all; or
instead of that one a kill -9 while the token is in memory and the log is open.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path

import click

from nexa.cli import main as shell
from nexa.cli.show import Output, output_options
from nexa.core.events import EventLog, emit, listening
from nexa.core.secrets import hub_token


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--kill", is_flag=True)
@output_options
def crash(out: Output, log: Path, kill: bool) -> None:
    """Tell everybody."""
    token = hub_token()
    assert token is not None
    value = token.reveal()
    events = EventLog(log)
    with listening(events):
        emit("note", text=f"note {value}")
        emit("other", detail={"deep": [value, f"https://x:{value}@hub/"]})
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    events.close()
    out.say(f"said {value}")
    print("printed", value)
    warnings.warn(f"warned {value}", stacklevel=1)
    logging.getLogger("third.party").error("logged %s", value)
    thread = threading.Thread(target=lambda: dict[str, int]()[value])
    thread.start()
    thread.join()
    raise RuntimeError(f"Authorization: Bearer {value}")


if __name__ == "__main__":
    shell.app = crash  # type: ignore[assignment]
    sys.exit(shell.main())
