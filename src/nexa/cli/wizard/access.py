"""The first question: a Hub token, typed unseen, checked at once, kept in memory only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexa.cli.wizard.asking import Asker
from nexa.core.errors import NetworkError, NexaError
from nexa.core.secrets import SESSION, Secret, hub_token, masked, token_from

if TYPE_CHECKING:
    from nexa.lm.hub_access import Identity

TYPED = "the prompt"


@dataclass(frozen=True)
class Access:
    """The Hub token that the rest may use, and what the Hub says of it.

    `identity` is None where there is no token or the Hub was not asked.
    """

    token: Secret | None = None
    identity: Identity | None = None

    @property
    def is_new(self) -> bool:
        """Whether it was typed just now, and is kept nowhere yet."""
        return self.token is not None and self.token.source == TYPED

    def shown(self) -> str:
        """Masked, with whose it is and where it is from."""
        if self.token is None:
            return "none"
        whose = f" of {self.identity.name} ({self.identity.role})" if self.identity else ""
        return f"{masked(self.token)}{whose}, from {self.token.source}"


def ask_token(asker: Asker) -> Access:
    """Ask for a token, or take the one that is there.

    One in the environment is used by everything anyway, so nothing is asked then.
    """
    there = hub_token()
    asker.title("Hub token")
    if there is not None:
        asker.tell(Access(there).shown())
    if not asker.asks or (there is not None and there.source.startswith("the environment")):
        return Access(there)
    skip = "Enter keeps it" if there else "Enter skips it: publishing then goes to a local folder"
    asker.tell(f"A token is needed for private models and for the Hub only. {skip}.")
    while True:
        typed = asker.hidden("Token (not shown)")
        if not typed:
            return Access(there)
        try:
            return _checked(asker, token_from(typed, TYPED))
        except NexaError as error:
            asker.refuse(error)


def keep(access: Access) -> str:
    """Give a new token to the session, which forgets it after some hours; returns what to say."""
    from nexa import session

    if access.token is None or not access.is_new:
        return ""
    session.login(access.token, validate=False, identity=access.identity)
    return f"Hub token: kept in memory by {SESSION}; nexa logout forgets it"


def _checked(asker: Asker, token: Secret) -> Access:
    """The token with its owner; where the Hub cannot be reached, without.

    Raises:
        AccessError: the Hub refuses it.
    """
    from nexa.lm.hub_access import whoami

    try:
        access = Access(token, whoami(token))
    except NetworkError as error:
        asker.refuse(error)
        asker.tell("The token is kept unchecked; publishing will check it.")
        return Access(token)
    asker.tell(access.shown())
    return access
