"""Who a Hub token is and what it may do; the Hub's refusals of a token in words.

The token is an argument of each call: nothing is logged in, and huggingface_hub's own file of
tokens is never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from huggingface_hub import HfApi
from huggingface_hub import errors as hub_errors

from nexa.core.errors import AccessError, NetworkError
from nexa.core.secrets import Secret, hub_endpoint
from nexa.lm.hub_retry import Patience, TransportError, chain, passing_error, reason

Role = Literal["read", "write", "fineGrained"]

ROLES: Mapping[Any, Role] = {"write": "write", "fineGrained": "fineGrained"}
TOKEN_PREFIX = "hf_"
NEW_TOKEN = "make a token that may write, on the Hub under Settings, Access Tokens; then nexa login"
LATER = "run it again when the Hub can be reached"
WHOAMI_PATIENCE = Patience(tries=3)


@dataclass(frozen=True)
class Identity:
    """Whose token it is."""

    name: str
    organisations: tuple[str, ...]
    role: Role
    writable: tuple[str, ...] | None = None
    """Owners and repositories that the token may write to; None: its owner and organisations."""

    def may_write(self, repo: str) -> bool:
        """Whether the token may write to a repository, as far as the Hub tells it."""
        if self.role == "read":
            return False
        owner = repo.partition("/")[0]
        places = (self.name, *self.organisations) if self.writable is None else self.writable
        return owner in places or repo in places


def whoami(
    token: Secret, endpoint: str | None = None, *, patience: Patience = WHOAMI_PATIENCE
) -> Identity:
    """Ask the Hub whose token this is.

    Raises:
        AccessError: the token is wrong, expired or revoked.
        NetworkError: the Hub is out of reach.
    """
    endpoint = endpoint or hub_endpoint()
    api = HfApi(endpoint=endpoint, token=token.reveal())
    try:
        told = patience.call(api.whoami, "asking the Hub whose token this is")
    except (hub_errors.OfflineModeIsEnabled, TransportError) as error:
        raise refusal(error, token, "cannot validate the Hub token", endpoint) from error
    return _identity(told)


def require_write(
    token: Secret | None,
    repo: str,
    endpoint: str | None = None,
    *,
    patience: Patience = WHOAMI_PATIENCE,
) -> Identity:
    """The identity of a token that may write to `repo`.

    Raises:
        AccessError: there is no token, it is wrong, or it may not write there; says which.
        NetworkError: the Hub is out of reach.
    """
    if token is None:
        raise AccessError(
            f"cannot publish to {repo}: there is no Hub token",
            found="none in the environment, in the session, or in the Hub client's own file",
            fix="nexa login, or publish to a local folder: --hub local",
        )
    identity = whoami(token, endpoint, patience=patience)
    if not identity.may_write(repo):
        raise _may_not_write(identity, token, repo)
    return identity


def token_argument(token: Secret | None) -> str | Literal[False]:
    """The `token=` of huggingface_hub's calls; False, so that it never looks for one itself."""
    return False if token is None else token.reveal()


def refusal(
    error: BaseException, token: Secret | None, doing: str, endpoint: str
) -> AccessError | NetworkError:
    """A failed request to the Hub as one of Nexa's errors.

    Args:
        error: what huggingface_hub raised, or something raised from it.
        token: the token that was sent.
        doing: what failed: "cannot publish to org/name".
        endpoint: the Hub that was asked.
    """
    for link in chain(error):
        if isinstance(link, hub_errors.OfflineModeIsEnabled):
            return NetworkError(
                f"{doing}: offline mode is on",
                found="HF_HUB_OFFLINE is set",
                fix="unset HF_HUB_OFFLINE",
            )
        if isinstance(link, hub_errors.GatedRepoError):
            return AccessError(
                f"{doing}: the repository is gated, its owners want you to accept their terms",
                found=reason(link),
                fix="accept them on its page, then nexa login with a token of that account",
            )
        if isinstance(link, hub_errors.HfHubHTTPError):
            if link.response.status_code == 401:
                return _unknown_token(link, token, doing)
            if link.response.status_code == 403:
                return AccessError(
                    f"{doing}: the Hub token may not do this", found=reason(link), fix=NEW_TOKEN
                )
            return NetworkError(
                f"{doing}: {endpoint} answers with an error", found=reason(link), fix=LATER
            )
    return NetworkError(
        f"{doing}: {endpoint} cannot be reached",
        found=reason(passing_error(error) or error),
        fix=LATER,
    )


def _unknown_token(
    error: hub_errors.HfHubHTTPError, token: Secret | None, doing: str
) -> AccessError:
    said = reason(error)
    if token is None:
        return AccessError(f"{doing}: the Hub wants a token", found=said, fix="nexa login")
    if "expired" in said.lower():
        why = "the Hub token has expired"
    elif not token.reveal().startswith(TOKEN_PREFIX):
        why = f"this is not a Hub token: those begin with {TOKEN_PREFIX}"
    else:
        # The Hub answers a token that was deleted as one that never was.
        why = "the Hub does not know this token: it was revoked, or is mistyped"
    return AccessError(f"{doing}: {why}", found=f"{said}; from {token.source}", fix=NEW_TOKEN)


def _may_not_write(identity: Identity, token: Secret, repo: str) -> AccessError:
    why = {
        "read": "the Hub token is read-only",
        "write": "the Hub token's owner may not write there",
        "fineGrained": "the Hub token was not given the right to write there",
    }[identity.role]
    places = ", ".join(dict.fromkeys((identity.name, *identity.organisations)))
    return AccessError(
        f"cannot publish to {repo}: {why}",
        found=f"{identity.name}'s {identity.role} token, from {token.source}; owners: {places}",
        fix=NEW_TOKEN
        if identity.role != "write"
        else f"--repo {identity.name}/{repo.partition('/')[2]}",
    )


def _identity(told: Mapping[str, Any]) -> Identity:
    """The Hub's answer; what it leaves out is taken as the least right."""
    access = (told.get("auth") or {}).get("accessToken") or {}
    role = ROLES.get(access.get("role"), "read")
    name = str(told.get("name"))
    organisations = told.get("orgs") or ()
    writable = (
        _scopes(access.get("fineGrained") or {})
        if role == "fineGrained"
        else (name, *(o["name"] for o in organisations if o.get("roleInOrg") != "read"))
    )
    return Identity(name, tuple(o["name"] for o in organisations), role, writable)


def _scopes(rights: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        scope["entity"]["name"]
        for scope in rights.get("scoped") or ()
        if "repo.write" in scope.get("permissions", ()) and "name" in scope.get("entity", {})
    )
