"""Whether and where to publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nexa.cli.wizard.access import Access
from nexa.cli.wizard.answers import LOCAL_HUB
from nexa.cli.wizard.asking import Asker, Choice
from nexa.core.errors import AccessError, NetworkError
from nexa.core.secrets import hub_endpoint
from nexa.orchestrate.start.init import ANY_OWNER, require_repo

NO, HUB = "no", "hub"


@dataclass(frozen=True)
class Publishing:
    """The Hub (None: not at all), the repository, and whether only its owner sees it."""

    hub: str | None = None
    repo: str | None = None
    private: bool = False


def ask_publishing(asker: Asker, given: Mapping[str, Any], access: Access, name: str) -> Publishing:
    """Ask where the model goes; the Hub is offered where there is a token for it.

    Raises:
        AccessError: nobody can be asked, and the token may not write to the repository.
    """
    asker.title("Publish")
    while True:
        try:
            return _ask_once(asker, given, access, name)
        except AccessError as error:
            if not asker.asks:
                raise
            asker.refuse(error)
            given = {"publish": None, "repo": None, "private": given["private"]}


def _ask_once(asker: Asker, given: Mapping[str, Any], access: Access, name: str) -> Publishing:
    endpoint = hub_endpoint()
    choices = [
        Choice(NO, "keep the model in its folder"),
        Choice(LOCAL_HUB, "a folder of this project, laid out as a Hub repository"),
    ]
    if access.token is not None:
        choices.append(Choice(HUB, endpoint))
    where = asker.choose(
        "Publish",
        choices,
        flag="publish",
        given=given["publish"],
        # Nothing leaves the machine by Enter, unless a token was typed for it just now.
        default=HUB if access.is_new else LOCAL_HUB,
    )
    if where == NO:
        return Publishing()
    owner = access.identity.name if where == HUB and access.identity else ANY_OWNER
    repo = asker.ask(
        "Repository",
        require_repo,
        flag="repo",
        given=given["repo"],
        default=f"{owner}/{name}",
    )
    if where == LOCAL_HUB:
        return Publishing(LOCAL_HUB, repo)
    _require_write(asker, repo, access, endpoint)
    private = asker.confirm(
        "Private (only you see it)", flag="private", given=given["private"], default=True
    )
    return Publishing(endpoint, repo, private)


def _require_write(asker: Asker, repo: str, access: Access, endpoint: str) -> None:
    """Refuse a repository that the token may not write to; out of reach, it is only told.

    Raises:
        AccessError: the token may not.
    """
    from nexa.lm.hub_access import require_write

    try:
        require_write(access.token, repo, endpoint)
    except NetworkError as error:
        asker.refuse(error)
        asker.tell("Whether the token may write there is not known until it is published.")
