"""Whether the token may publish where config.yaml wants to: asked before any training."""

from __future__ import annotations

from nexa.core.config import Config
from nexa.core.secrets import hub_token


def check(config: Config) -> str:
    """Ask the Hub that `publish` names whether our token may write there.

    Raises:
        AccessError: no token, a wrong or expired one, or one that may not write to the repository.
        NetworkError: the Hub cannot be reached.
    """
    if config.publish is None:
        return "nothing is published"
    hub, repo = config.publish.hub, config.publish.repo
    if "://" not in hub:
        return f"{repo} goes into a local folder: no token is needed"
    from nexa.lm.hub_access import require_write  # huggingface_hub: only where a Hub is asked

    identity = require_write(hub_token(), repo, hub)
    return f"{identity.name} may write to {repo} ({identity.role} token)"
