"""Keeps secrets out of all that is shown or stored: endpoints echo keys, wholly or in part, in many encodings."""

from __future__ import annotations

import re
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote

import orjson

from connector.base.errors import ConfigError, ConnectorError, Problem
from connector.base.finding import holds, is_in
from connector.base.regex import regex

MASK: Final = "***"
_SHORTEST: Final = 4
_SHORTEST_ENCODED: Final = 8  # characters of Base64 or hex: shorter ones occur in texts by chance
_KEY_LIKE: Final = regex(r"\b(?:(?:sk|pk|rk|gsk|xai|hf|nvapi)[-_]|AIza)[\w*.…-]{4,}|(?<=[Bb]earer )[\w.~+/=-]{16,}")
_SCHEME: Final = regex(r"[A-Za-z][A-Za-z0-9+.-]*:?/+")
_PARAMETERS: Final = regex(r"([?#]).*", re.DOTALL)
_SECRET_NAME: Final = regex(r"(?:key|token|secret|signature|password)$|^(?:sig|code|auth)$", re.IGNORECASE)
_SECRET_HEADER: Final = regex(
    r"(?:^|[-_])(?:auth|authorization|(?:api)?key|(?:access|auth)?token|secret|signature|password|cookie|credentials?)"
    r"(?:$|[-_])",
    re.IGNORECASE,
)
_DENSE: Final = 16  # characters of mixed letters and digits from which on a text counts as a secret
_LOGIN: Final = regex(r"[^\s:@]*:.*@[^\s@]*", re.DOTALL)
_BLANK_HOST: Final = regex(r"@[^@/?#]*\s")  # no host has a blank: the password continues after the @
_USER: Final = regex(r"//[^:@/?#]*")
_LOGIN_ENDS: Final = regex(r"[@/?#]+")
_PASSWORD: Final = regex(r"""(?:pass(?:word|wd)?|pwd)=(?:'([^']*)|"([^"]*)|([^\s'"]\S*))""", re.IGNORECASE)
_VALUE_ENDS: Final = regex(r"""[&;'"]""")
_PLACE: Final = regex(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::[0-9]{0,5})?")
_LONGEST_URL: Final = 4096
_OPTION: Final = regex(r"^--[\w-]+=")
_COLONS: Final = 8  # colons in a password, beyond which its parts are not distinguished
_SEPARATOR: Final = regex(r"[\s;,=]+")
_ESCAPE: Final = regex(r"%[0-9A-F]{2}")
_ESCAPED: Final = regex(
    r"\\(?<!\\\\)\\*+(?:(?:u00|x)([0-9A-Fa-f]{2})|(/))|%(?:25)*([0-9A-Fa-f]{2})"
    r"|&(?:amp;)*(?:#0{0,5}([0-9]{1,3});|#[xX]0{0,5}([0-9A-Fa-f]{1,2});|(amp|lt|gt|quot|apos);)"
)
"""Matches a character that JSON, a URL or HTML has escaped, even twice. Writers differ in which ones they escape."""

_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_MARKS: Final = ("\\u00", "\\x", "\\/", "%", "&")
_LONGEST_ESCAPE: Final = 8  # characters for one
# As `html.escape` does; the module `html` loads a table of two thousand entities.
_IN_HTML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_WORD: Final = 6  # letters: a text of no more is an ordinary word
_PLACEHOLDERS: Final = frozenset(
    {"not-needed", "no-key", "no-key-required", "sk-no-key-required", "lm-studio", "placeholder", "anything"}
)


def looks_secret(name: str, value: str) -> bool:
    """Returns whether a parameter of a URL holds a secret, judged by its name or by the look of its value."""
    return bool(_SECRET_NAME.search(name) or _KEY_LIKE.search(value))


def secrets_of_header(name: str, value: str) -> Iterator[str]:
    """Yields the secrets in a header: the whole value and its parts, if its name or value looks secret."""
    parts = _SEPARATOR.split(value)
    is_secret = _SECRET_HEADER.search(name) is not None
    if is_secret or _KEY_LIKE.search(value) or any(map(is_dense, parts)):
        yield value
        yield from (part for part in parts if is_secret and len(part) >= _SHORTEST_ENCODED)


def is_dense(text: str) -> bool:
    """Returns whether a text looks like a key: long, with letters and digits mixed."""
    return len(text) >= _DENSE and any(map(str.isdigit, text)) and any(map(str.isalpha, text))


def is_word(secret: str) -> bool:
    """Returns whether a key is only a placeholder, such as `ollama` or `EMPTY` for servers that check no key."""
    return len(secret) < _SHORTEST or (len(secret) <= _WORD and secret.isalpha()) or secret.lower() in _PLACEHOLDERS


def spellings(secret: str) -> set[str]:
    """Returns all encodings of a secret that servers and proxies use: plain, URL, JSON, HTML, Base64 and hex."""
    data = secret.encode("utf-8", "replace")
    in_json = _escaped(secret)
    quoted = [form(secret, safe="", errors="replace") for form in (quote, quote_plus)]
    found = {secret, in_json, _escaped(in_json), secret.translate(_IN_HTML), *quoted}
    found |= {_ESCAPE.sub(lambda match: match[0].lower(), text) for text in quoted}
    encoded = [data.hex(), data.hex().upper()]
    for before in range(3):  # for each offset within an encoded text: the characters that encode only the secret
        begin, end = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        encoded += [form(b"\0" * before + data).decode()[begin:end] for form in (b64encode, urlsafe_b64encode)]
    return found | {text for text in encoded if len(text) >= _SHORTEST_ENCODED}


def _escaped(text: str) -> str:
    try:
        return orjson.dumps(text).decode()[1:-1]
    except TypeError:  # a lone surrogate, which no key contains
        return text


def bare_url(url: str) -> str:
    """Returns a URL, even a malformed one, without the parts that may hold a key: user, query, fragment."""
    scheme = _SCHEME.match(url)
    head = scheme[0] if scheme else ""
    _, has_user, place = url[len(head) :].rpartition("@")
    if not has_user and (password := _no_port(place)):
        place = place.replace(f":{password}", f":{MASK}", 1)
    place = _PARAMETERS.sub(rf"\1{MASK}", place)
    return head + (f"{MASK}@" if has_user else "") + place


def passwords_in(words: Iterable[str]) -> Iterator[str]:
    """Yields what may be a password in words of a command line or a config, even in a malformed URL.

    That is the text between a colon and the last `@`, in a URL without a host whatever is not a port, and in any URL
    the values of parameters named like passwords. A user without a password counts only in the URL of a web server.
    Words that are longer than any URL are skipped.
    """
    for word in words:
        text = _OPTION.sub("", word.strip(" \"'"), count=1)
        if len(text) > _LONGEST_URL:
            continue
        scheme = _SCHEME.match(text)
        if _LOGIN.fullmatch(text):
            _, *logins = text.rpartition("@")[0].split(":")
            is_database = scheme and "://" in scheme[0] and not scheme[0].lower().startswith("http")
            is_user = is_database and _USER.fullmatch(unquote(":".join(logins)))
            for start in range(0 if is_user else min(len(logins), _COLONS)):
                login = ":".join(logins[start:])
                yield from (login, unquote(login), *_LOGIN_ENDS.split(login))
        if scheme and "@" not in text:
            password = _no_port(text[scheme.end() :])
            yield from (password, *_LOGIN_ENDS.split(password))
        if scheme and _BLANK_HOST.search(text):
            password = text[scheme.end() :].partition(":")[2]
            yield from (password, *_LOGIN_ENDS.split(password), *re.split(r"[\s@/?#]+", password))
        for found in _PASSWORD.finditer(text):
            value = next(filter(None, found.groups()), "")
            yield from (value, *_VALUE_ENDS.split(value)[0].split("="), _VALUE_ENDS.split(value)[0])
        yield from (
            value for name, value in parse_qsl(text.partition("?")[2]) if "://" in text and looks_secret(name, value)
        )


def _no_port(text: str) -> str:
    """Returns what follows the first colon after a URL's scheme unless it is a port: a password without a host."""
    places = _LOGIN_ENDS.split(text, maxsplit=1)[0].split(",")
    return "" if all(map(_PLACE.fullmatch, places)) else text.partition(":")[2]


@contextmanager
def without_passwords(words: Iterable[str]) -> Iterator[None]:
    """Removes possible passwords in the given words from errors, since a path may be a mistyped URL."""
    try:
        yield
    except ConnectorError as error:
        Masker(passwords_in(words)).error(error)
        raise


def _in_latin(text: str) -> str:
    """Returns the UTF-8 of a text, decoded as Latin-1."""
    return text.encode("utf-8", "replace").decode("latin-1")


def _unescaped(found: re.Match[str]) -> str:
    """Returns the character that a match of `_ESCAPED` means."""
    in_json, slash, in_url, decimal, in_hex, name = found.groups()
    digits = in_json or in_url or in_hex
    return slash or (chr(int(digits, 16)) if digits else chr(int(decimal)) if decimal else _NAMED[name])


def _places(text: str, ends: Iterable[int]) -> Iterator[int]:
    """Yields where places of the unescaped text, given in their order, are in `text`."""
    left = 0  # by how many characters the escapes before were longer
    escapes = _ESCAPED.finditer(text)
    found = next(escapes, None)
    for end in ends:
        while found is not None and found.start() - left < end:
            left += len(found[0]) - 1
            found = next(escapes, None)
        yield end + left


class Masker:
    """Replaces known secrets in all encodings, and whatever looks like a key, with `***`. Thread-safe.

    An ordinary word is not masked, even if it is configured as a key, since it occurs in ordinary sentences.
    """

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        self._secrets: frozenset[str] = frozenset()
        self._in_text: tuple[str, ...] = ()
        self._in_json: tuple[str, ...] = ()  # the same in UTF-8, decoded as Latin-1
        self._in_bytes: tuple[str, ...] = ()  # the long secrets themselves, in the same form
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()
        self._add(secrets)

    def __reduce__(self) -> tuple[type[Masker], tuple[list[str]]]:  # its lock does not pickle
        return Masker, (sorted(self._secrets),)

    def learn(self, secret: str) -> None:
        """Adds a secret to mask from now on."""
        with self._lock:
            self._add([secret])

    def __call__(self, text: str) -> str:
        """Returns `text` without secrets."""
        return _KEY_LIKE.sub(MASK, self._known(text))

    def cut(self, text: str, most: int) -> str:
        """Returns the first `most` characters of a masked text; a secret that the cut would split is masked too."""
        longest = max(map(len, self._in_text), default=0) * (_LONGEST_ESCAPE if is_in(text, _MARKS) else 1)
        if len(text) <= most + longest:
            return self(text)[:most]
        masked = self(text[: most + longest])
        return masked[: max(0, len(masked) - longest)][:most]

    def value(self, value: Any, data: bytes | None = None) -> Any:
        """Returns a JSON value without known secrets. Texts that only look like a key may be a model's answer.

        Args:
            value: The value.
            data: The JSON in UTF-8 from which it was decoded, if at hand.
        """
        if not self._in_json:
            return value
        if data is None or (b"\\" in data and (b"\\u" in data or b"\\/" in data)):  # escapes may hide a secret
            try:
                data = orjson.dumps(value)
            except TypeError:  # a number or text that orjson does not encode
                return self._masked(value)
        return self._masked(value) if holds(data, self._in_json) or self._holds_escaped(data) else value

    def is_in_bytes(self, data: bytes) -> bool:
        """Returns whether bytes spell a known secret that is long enough not to occur in them by chance."""
        return holds(data, self._in_bytes)

    def fields(self, fields: Mapping[str, str]) -> dict[str, str]:
        """Returns header fields without known secrets."""
        text = "\n".join(fields.values())
        if not is_in(text, self._in_text) and not is_in(text, _MARKS):
            return dict(fields)
        return {name: self._known(value) for name, value in fields.items()}

    def error(self, error: ConnectorError) -> None:
        """Masks the secrets in an error."""
        error.message, error.detail = self(error.message), self(error.detail)
        error.args = (error.message,)
        if isinstance(error, ConfigError):
            error.problems = [Problem(self(each.path), self(each.message)) for each in error.problems]

    def __repr__(self) -> str:
        return "Masker()"

    def _known(self, text: str) -> str:
        pattern = self._pattern
        if pattern is None:
            return text
        if is_in(text, self._in_text):
            text = pattern.sub(MASK, text)
        return self._without_escaped(text, pattern) if is_in(text, _MARKS) else text

    def _without_escaped(self, text: str, pattern: re.Pattern[str]) -> str:
        """Returns a text without the secrets that it would hold if it were unescaped."""
        plain = _ESCAPED.sub(_unescaped, text)
        if not is_in(plain, self._in_text):
            return text
        places = [0, *_places(text, chain.from_iterable(found.span() for found in pattern.finditer(plain))), len(text)]
        return MASK.join(text[start:end] for start, end in zip(places[::2], places[1::2], strict=True))

    def _holds_escaped(self, data: bytes) -> bool:
        """Returns whether a text within JSON would hold a secret if it were unescaped."""
        if b"%" not in data and b"&" not in data and b"\\\\" not in data:
            return False
        return is_in(_ESCAPED.sub(_unescaped, data.decode("utf-8", "replace")), self._in_text)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._known(value)
        if isinstance(value, list):
            return [self._masked(each) for each in value]
        if isinstance(value, dict):
            return {self._known(name): self._masked(each) for name, each in value.items()}
        return value

    def _add(self, secrets: Iterable[str | None]) -> None:
        self._secrets = self._secrets.union(each for each in secrets if each and not is_word(each))
        every = set().union(*map(spellings, self._secrets))
        longest_first = sorted(every, key=lambda text: (-len(text), text))
        self._pattern = regex("|".join(map(re.escape, longest_first))) if longest_first else None
        # A text without any of the shortest ones cannot contain longer ones of which they are part.
        self._in_text = tuple(
            text for text in longest_first if not any(other != text and other in text for other in longest_first)
        )
        self._in_json = tuple(map(_in_latin, self._in_text))
        self._in_bytes = tuple(_in_latin(text) for text in self._secrets if len(text) >= _SHORTEST_ENCODED)
