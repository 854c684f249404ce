"""Which Hub `publish.hub` names, and whether it will take a publication: asked before any work."""

from __future__ import annotations

from pathlib import Path

from nexa.core.config_sections import PublishSection
from nexa.core.secrets import hub_token
from nexa.core.tiers import Tiers
from nexa.lm.hub_access import require_write
from nexa.publish.hub import Hub
from nexa.publish.hub_folder import HubFolder
from nexa.publish.hub_remote import HubRemote

LOCAL = "local"  # the Hub in the project's own .nexa/hub


def hub_of(hub: str, tiers: Tiers) -> Hub:
    """The Hub `local`, a folder, which is taken from the project's, or a Hub's address."""
    if is_remote(hub):
        return HubRemote(hub.rstrip("/"), hub_token())
    return HubFolder(tiers.hub if hub == LOCAL else tiers.root / Path(hub).expanduser())


def is_remote(hub: str) -> bool:
    """Whether a Hub is on the network."""
    return "://" in hub


def hub_name(hub: str) -> str:
    """What a publication's record calls it: its address, or `local` for any folder."""
    return hub.rstrip("/") if is_remote(hub) else LOCAL


def require_hub(section: PublishSection, tiers: Tiers) -> None:
    """Refuse what could not be published at the end; a folder needs no permission.

    Raises:
        UsageError: the repository is not OWNER/NAME.
        AccessError: no token, or one that may not write there; names `nexa login`, `--hub local`.
        NetworkError: the Hub is out of reach.
    """
    hub_of(section.hub, tiers).location(section.repo)
    if is_remote(section.hub):
        require_write(hub_token(), section.repo, section.hub.rstrip("/"))
