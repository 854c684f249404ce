"""Credentials: keys and tokens by their issuers' forms, and what stands beside a secret's name.

Three looks: the forms that `nexa.core.secrets` takes out of every log; those of detect-secrets'
plugins; and values that a name, an option or an address gives away (`password = `, `curl -u`,
`://user:word@`), which must look drawn at random or like a password, never like a word, a
placeholder, code, a digest, a UUID, a molecule or a sequence. What was found is never written
anywhere: a verdict says its kind and its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from detect_secrets.plugins.artifactory import ArtifactoryDetector
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from nexa.core.config_filters import SecretsSection
from nexa.core.secrets import CREDENTIALS
from nexa.data.filters.secret_values import looks_like_a_key, looks_like_a_password
from nexa.data.filters.texts import Find, Search, apart

WHAT = "secret"

PLUGINS: dict[str, RegexBasedDetector] = {
    "GitHub": GitHubTokenDetector(),
    "GitLab": GitLabTokenDetector(),
    "Slack": SlackDetector(),
    "Stripe": StripeDetector(),
    "Square": SquareOAuthDetector(),
    "SendGrid": SendGridDetector(),
    "OpenAI": OpenAIDetector(),
    "PyPI": PypiTokenDetector(),
    "Azure": AzureStorageKeyDetector(),
    "Amazon Web Services": AWSKeyDetector(),
    "Discord": DiscordBotTokenDetector(),
    "Telegram": TelegramBotTokenDetector(),
    "Twilio": TwilioKeyDetector(),
    "Mailchimp": MailchimpDetector(),
    "Artifactory": ArtifactoryDetector(),
}
# Forms that neither list has.
OTHERS = {
    "private key": re.compile(
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:(?!-----)[\s\S])*-----END [A-Z0-9 ]*-----|[A-Za-z0-9+/=\s\\:,-]*)"
    ),
    "JSON web token": re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"),
    "Google": re.compile(r"GOCSPX-[\w-]{20,}|ya29\.[\w-]{20,}"),
    "npm": re.compile(r"npm_[A-Za-z0-9]{30,}"),
    "DigitalOcean": re.compile(r"do[opr]_v1_[0-9a-f]{40,}"),
    "Discord": re.compile(r"[MNO][\w-]{22,27}\.[\w-]{6}\.[\w-]{27,}"),
    "Slack": re.compile(r"xapp-[0-9]-[A-Z0-9]{8,}-[0-9]{8,}-[0-9a-f]{20,}"),
    "Vault": re.compile(r"hv[sbr]\.[\w-]{24,}"),
    "Databricks": re.compile(r"dapi[0-9a-f]{32}"),
    "Weights & Biases": re.compile(r"wandb_v1_[\w-]{30,}"),
}
# `pass` alone is a verb, too; RE2, for the first look, has no lookahead.
_ASSIGNED = r"|pass(?=[\"']?\s?[:=])"
_WORD = (
    rf"pass(?:word|wd|phrase|code){_ASSIGNED}|passwort|kennwort|pwd|secret|token|credentials?"
    r"|(?:api|access|auth|secret|private|signing|encryption|account|service|client|storage|master)"
    r"[_-]?key|authkey"
)
# A name that ends in a secret's word, what joins it with its value, and the value.
NAMED = re.compile(
    rf"(?P<name>{_WORD})[0-9]?[\"']?"
    r"(?:\s{0,4}(?::=|=>|={1,3}|:)\s{0,4}|\s(?:is|ist|lautet)\s?:?\s|[ =])"
    r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`]{5,500})(?P=quote)",
    re.IGNORECASE,
)
PUBLIC = re.compile(r"public[_-]?(?:key[_-]?)?$", re.IGNORECASE)  # is no secret
IN_ADDRESS = re.compile(r"://[^\s:@/]{0,200}:(?P<value>[^\s@/]{4,500})@")
BEARER = re.compile(r"\b(?:bearer|token)\s+(?P<value>[\w.~+/=-]{16,})", re.IGNORECASE)
BASIC = re.compile(r"\bbasic\s+(?P<value>[A-Za-z0-9+/]{12,}={0,2})(?![\w])", re.IGNORECASE)
OPTION = re.compile(
    r"(?:\bcurl\b[^\n]{0,300}?\s(?:-u|--user)\s+[\"']?[^\s:\"']+:|\bsshpass\s+-p\s*"
    r"|\b(?:mysql|mysqldump|mariadb)\b[^\n]{0,300}?\s-p|\bdocker\s+login\b[^\n]{0,300}?\s-p\s+)"
    r"[\"']?(?P<value>[^\s\"']{5,})"
)
# RE2, over whole batches: it must hit whatever the looks above find.
FIRST = "|".join(
    [
        rf"(?i:(?:pass|{_WORD.replace(_ASSIGNED, '')})[0-9]?[\"']?"
        r"(?:\s*[:=]|\s(?:is|ist|lautet)\s|[ ]\S*[0-9!-/:-@]))",
        r"(?i:bearer|token|basic)\s+[\w.~+/=-]{12}",
        r"://[^\s:@/]*:[^\s@/]+@|PRIVATE KEY|eyJ[\w-]{4}|(?i:curl|sshpass|mysql|mariadb|docker) ",
        r"hf_|api_org_|sk-|gh[pousr]_|github_pat_|gl[a-z]{2,6}-|GR1348941|A3T|ABIA|ACCA|A[KS]IA",
        r"AIza|GOCSPX|ya29|tskey|xox|xapp|hooks\.slack|k_live_|sq0csp|SG\.|T3BlbkFJ|pypi-|npm_",
        r"do[opr]_v1|AccountKey|AKC|AP[0-9A-F]|hv[sbr]\.|dapi[0-9a-f]|wandb_v1|-us[0-9]",
        r"(?:AC|SK)[a-z0-9]{32}|[0-9]{8}:[\w-]{35}|[MNO][\w-]{22,27}\.[\w-]{6}\.",
    ]
)


def make(options: SecretsSection) -> Search:
    """The filter."""
    return Search(
        first=FIRST,
        close=find_secrets,
        what=WHAT,
        action=options.action,
        placeholder=lambda _: "[SECRET]",
    )


def find_secrets(text: str) -> Sequence[Find]:
    """Every credential in a text; the issuers' forms come before what a name gives away."""
    return apart([*_others(text), *_known(text), *_plugins(text), *_beside(text)])


def _known(text: str) -> Iterator[Find]:
    for issuer, pattern in CREDENTIALS:
        for match in re.finditer(rf"(?<![A-Za-z0-9]){pattern}", text):
            yield from _found(match, issuer)


def _plugins(text: str) -> Iterator[Find]:
    for issuer, plugin in PLUGINS.items():
        for pattern in plugin.denylist:
            for match in pattern.finditer(text):
                yield from _found(match, issuer)


def _others(text: str) -> Iterator[Find]:
    for issuer, pattern in OTHERS.items():
        for match in pattern.finditer(text):
            if issuer == "private key":
                yield Find(match.start(), match.end(), issuer)
            else:
                yield from _found(match, issuer)


def _found(match: re.Match[str], issuer: str) -> Iterator[Find]:
    """A match of an issuer's form, unless it is the middle of a word or filled with a letter."""
    text, (start, end) = match.string, match.span()
    whole = not (text[start].isalnum() and text[:start][-1:].isalnum())
    if whole and len(set(match[0])) > 8:
        yield Find(start, end, f"{issuer} token" if not issuer.endswith("token") else issuer)


def _beside(text: str) -> Iterator[Find]:
    """What an address, a header, an option or a name gives away."""
    for pattern in (IN_ADDRESS, OPTION):
        for match in pattern.finditer(text):
            if looks_like_a_password(match["value"]):
                yield Find(*match.span("value"), "password")
    for pattern in (BEARER, BASIC):
        for match in pattern.finditer(text):
            if looks_like_a_key(match["value"]):
                yield Find(*match.span("value"), "key")
    for match in NAMED.finditer(text):
        start, value = match.start("value"), match["value"].rstrip(",;.)]}")
        name = match["name"].lower()
        if PUBLIC.search(text[: match.start()][-12:]):
            continue
        if "pass" in name or "pwd" in name or "kennwort" in name:
            if looks_like_a_password(value):
                yield Find(start, start + len(value), "password")
        elif looks_like_a_key(value):
            yield Find(start, start + len(value), "key")
