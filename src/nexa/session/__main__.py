"""`python -m nexa.session`: the session's server; `nexa login` starts it on demand."""

import os
import sys

from nexa.core.secrets import child_environment

if __name__ == "__main__":
    # What the parent had open is not this process's: it would keep a reader of a pipe waiting.
    os.closerange(3, 4096)
    if (clean := child_environment()) != dict(os.environ):
        # Started by hand: /proc shows for good what a process was started with, so start anew.
        os.execve(sys.executable, [sys.executable, "-P", "-m", "nexa.session"], clean)
    from nexa.session.server import main

    main()
