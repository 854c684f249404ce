"""A process that dies by kill -9 at the n-th touch of the file system while it saves a checkpoint.

    python -m tests.train.crash FOLDER

prints how many of its children were killed; the one after them came to its end.
"""

from __future__ import annotations

import sys
from pathlib import Path

from nexa.train.checkpoint import save
from tests.core.crash import main
from tests.train.test_checkpoint import run_state

if __name__ == "__main__":
    print(main(lambda folder: save(folder, run_state(2)), Path(sys.argv[1])))
