"""Run `nexa guide` again and again in one interpreter: each start of one costs two seconds.

    python -m tests.cli.wizard.again

Every line that begins with `again` starts it with the flags that follow; its exit code is shown,
and whether the terminal shows what is typed.
"""

from __future__ import annotations

import shlex
import sys
import termios

from nexa.cli.main import main


def serve() -> None:
    """Until the line `enough`."""
    while True:
        print("ready> ", end="", flush=True)
        word, *flags = shlex.split(sys.stdin.buffer.readline().decode())
        if word == "enough":
            return
        code = main(["guide", *flags])
        echo = bool(termios.tcgetattr(sys.stdin.fileno())[3] & termios.ECHO)
        print(f"exit code {code}, echo {'on' if echo else 'off'}", flush=True)


if __name__ == "__main__":
    serve()
