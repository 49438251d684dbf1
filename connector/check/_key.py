"""The key: whether there is one, whether it looks valid, and which provider's it is, before it is sent anywhere."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from connector.base.masking import looks_secret
from connector.base.regex import regex
from connector.check._providers import provider_of_host, provider_of_key
from connector.config.config import Config
from connector.http.auth import scheme_of

_REFERENCE: Final = regex(r"\$\{?[A-Za-z_]\w*\}?|%\w+%|\{\{[^{}]*\}\}|(?:env|os\.environ)[:/.]\w+|<[^<>]*>")
_PLACEHOLDER: Final = regex(
    r"(?:sk-)?(?:\.{2,}|…|x{3,}|\*{3,}|your[-_ ].*|my[-_ ].*key|change[-_]?me|api[-_]?key|todo|none|null)",
    re.IGNORECASE,
)
_QUOTES: Final = "\"'`\u201c\u201d\u2018\u2019"
_CALLERS: Final = {
    "openai-organization": "set OPENAI_ORG_ID, or the header OpenAI-Organization, to that of the key, or remove it",
    "such organization": "set OPENAI_ORG_ID, or the header OpenAI-Organization, to that of the key, or remove it",
    "openai-project": "set OPENAI_PROJECT, or the header OpenAI-Project, to that of the key, or remove it",
    "such project": "set OPENAI_PROJECT, or the header OpenAI-Project, to that of the key, or remove it",
    "ip address": "add this machine's address to those that the account allows, or set api_key to another key",
}
_BEARER: Final = scheme_of("bearer").header
_SET: Final = "set api_key, or OPENAI_API_KEY in the environment"


def problem(config: Config) -> str | None:
    """Returns what is wrong with the key and the change to make; `None` if only the endpoint can tell."""
    if config.makes_key:
        return None
    if not config.key:
        provider = provider_of_host(_host(config))
        if provider is None or is_identified(config):
            return None
        begins = f" (its keys begin with {provider.begins})" if provider.prefix else ""
        return f"no key is set, and {provider.name} needs one{begins}: {_SET}"
    key = str(config.key)
    return _malformed(key) or _misplaced(config, key)


def is_identified(config: Config) -> bool:
    """Returns whether a request carries a key or anything else that identifies its sender."""
    named = any(re.search(r"auth|key|token", name, re.IGNORECASE) for name in config.headers)
    return _sends_key(config) or named or _in_query(config)


def accepted(config: Config) -> str:
    """Returns the finding for a key that the endpoint accepts: how it was sent."""
    if not is_identified(config):
        return "none is set, and the endpoint needs none"
    if not _sends_key(config):
        return "the endpoint accepts what headers or query hold"
    return f"the endpoint accepts the key, sent {scheme_of(config.auth).how}"


def rejected(config: Config, refusal: str) -> str:
    """Returns why the endpoint may have refused the key, and the change to make."""
    has_key, scheme = bool(config.key) or config.makes_key, scheme_of(config.auth)
    if not is_identified(config):
        why = ' because auth is "none"' if has_key else ""
        change = 'set auth to "bearer", or to the name of the header that holds the key' if has_key else _SET
        return f"the endpoint needs a key, and none was sent{why} ({refusal}): {change}"
    caller = next((words for words in _CALLERS if words in refusal.lower()), None)
    if caller is not None:
        return f"the endpoint knows the key, but refuses its caller ({refusal}): {_CALLERS[caller]}"
    if scheme.header not in ("", _BEARER) and re.search("authorization|bearer", refusal, re.IGNORECASE):
        return f'the endpoint did not find the key in the header {config.auth} ({refusal}): set auth to "bearer"'
    key = "" if config.makes_key else str(config.key)
    owner, azure = provider_of_key(key), "azure" in _host(config) or "/openai/deployments/" in config.url
    if owner is not None:
        return (
            f"the endpoint refuses the key ({refusal}), which looks like one of {owner.name}'s ({owner.begins}): set "
            f"api_key to a key of {_host(config)}, or url to {owner.base_url}"
        )
    if azure and scheme.header == _BEARER and not (config.makes_key or key.startswith("eyJ")):
        return f'the endpoint refuses the key ({refusal}): Azure takes it in a header of its own: set auth to "api-key"'
    change = "check what the program or function that makes it returns" if config.makes_key else _SET
    return f"the endpoint refuses the key ({refusal}): it is wrong, expired or of another account; {change}"


def _sends_key(config: Config) -> bool:
    """Returns whether a request carries the config's key in any way."""
    return (bool(config.key) or config.makes_key) and bool(scheme_of(config.auth).header)


def _malformed(key: str) -> str | None:
    if key != key.strip() or any(char in key for char in "\r\n\t"):
        what = "a line break" if "\n" in key or "\r" in key else "white space"
        return f"api_key has {what} in it or around it: remove that"
    if len(key) > 1 and key[0] in _QUOTES and key[-1] in _QUOTES:
        return "api_key has quotation marks around it: remove them"
    if key.lower().startswith("bearer "):
        return 'api_key begins with "Bearer", which is added automatically: give the key alone'
    if _REFERENCE.fullmatch(key):
        return "api_key looks like the name of a variable, not its value: write ${NAME}, with the braces"
    if _PLACEHOLDER.fullmatch(key):
        return f"api_key is a placeholder, not a key: {_SET}"
    if " " in key or not key.isascii():
        return "api_key has characters that no key has: copy it again, without spaces"
    return None


def _misplaced(config: Config, key: str) -> str | None:
    """Returns the problem of a key that is certainly another provider's: it is not sent."""
    owner, here = provider_of_key(key), provider_of_host(_host(config))
    if here is None or owner is here or not _sends_key(config):
        return None
    if owner is not None:
        return (
            f"api_key is one of {owner.name}'s ({owner.begins}), but url points to {here.name}, so it was not sent: "
            f"set api_key to a key of {here.name}, or url to {owner.base_url}"
        )
    if here.prefix not in ("", "sk-") and key.startswith("sk-"):
        return f"api_key begins with sk-, but keys of {here.name} begin with {here.begins}: set api_key to one of those"
    return None


def _host(config: Config) -> str:
    return urlsplit(config.url).hostname or ""


def _in_query(config: Config) -> bool:
    return any(looks_secret(name, value) for name, value in config.parameters.items()) or "key=" in config.url
