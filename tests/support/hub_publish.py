"""Publish a folder in a process of its own, which may be killed. The token comes on standard input.

python -m tests.support.hub_publish ENDPOINT OWNER/NAME FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from nexa.core.secrets import Secret
from nexa.publish.hub_folder import folder_files
from nexa.publish.hub_remote import HubRemote


def main() -> None:
    endpoint, repo, folder = sys.argv[1:]
    token = Secret(sys.stdin.readline().strip(), "standard input")
    placed = HubRemote(endpoint, token).publish(repo, folder_files(Path(folder)))
    print("changed" if placed.changed else "unchanged")


if __name__ == "__main__":
    main()
