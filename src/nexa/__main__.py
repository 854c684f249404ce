"""`python -m nexa` is `nexa`."""

import sys

from nexa.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
