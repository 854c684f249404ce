"""`python -m nexa` is `nexa`."""

from nexa.cli.main import run

if __name__ == "__main__":
    run()
