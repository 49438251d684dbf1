"""Imports configs of other tools: JSON and TOML as coding tools write them, and `.env` files."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlencode

from connector.base.errors import ConfigError
from connector.base.masking import MASK, bare_url, is_dense, looks_secret
from connector.base.regex import regex
from connector.base.suggestions import there_are

_URL: Final = ("base_url", "baseurl", "api_base", "apibase", "base", "endpoint", "url", "api_url", "apiurl", "host")
_KEY: Final = ("api_key", "apikey", "key", "token", "auth_token", "access_token")
_VARIABLE: Final = ("api_key_env", "apikeyenv", "env_key", "envkey", "api_key_env_var", "apikeyenvvar", "key_env")
_MODEL: Final = ("model", "default_model", "defaultmodel", "model_id", "modelid", "model_name")
_HEADERS: Final = ("headers", "http_headers", "extra_headers", "requestoptions")
_CHOSEN: Final = ("model_provider", "provider", "default_provider", "active_provider")
_GROUPS: Final = ("provider", "providers", "model_providers", "models", "openai", "llm", "options", "profiles", "llms")
_ENVIRONMENT: Final = {
    "OPENAI_API_KEY": "api_key",
    "OPENAI_BASE_URL": "url",
    "OPENAI_API_BASE": "url",
    "OPENAI_MODEL": "model",
    "OPENAI_ORG_ID": "organization",
    "OPENAI_ORGANIZATION": "organization",
    "OPENAI_PROJECT": "project",
    "OPENAI_PROJECT_ID": "project",
}
_PLAIN: Final = ("url", "api_key", "model", "endpoint", "organization", "project")
_LINE: Final = regex(r"\s*+(?:export\s++)?([A-Za-z_]\w*+)\s*+=(.*)")
_REFERENCE: Final = regex(r"\$\{?([A-Za-z_]\w*)\}?|\{env:(\w+)\}|\{\{\s*(?:env|secrets)\.(\w+)\s*\}\}|env:(\w+)")
_COMMENT: Final = regex(r"(?m)^[ \t]*//.*")
_PUBLIC: Final = frozenset(
    "accept accept-language anthropic-beta anthropic-version api-version api_version content-type http-referer "
    "openai-beta openai-organization openai-project user-agent version x-title".split()
)  # headers and parameters that never hold a secret
_LEFT_OUT: Final = "{} is left out, because it may be a secret: add it as ${{NAME}}"
_DEEPEST: Final = 4
_DEFAULT: Final = "OPENAI_API_KEY"


class Imported(NamedTuple):
    """Our config, as JSON, and notes for the person who imports it."""

    config: dict[str, Any]
    notes: tuple[str, ...]


def imported(path: Path, provider: str | None = None, *, literal: bool = False) -> Imported:
    """Reads a config of another tool.

    Args:
        provider: The one to use if the file holds several.
        literal: Whether to copy secrets into the config; else it refers to variables, or leaves them out.

    Raises:
        ConfigError: It cannot be read, describes no endpoint, or holds several providers.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        told = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{path} cannot be read: {told}") from None
    if _is_env(path, text):
        found = _from_env(text)
    else:
        data = _parsed(path, text)
        found = _from_tables(data, path, provider)
    if not found:
        raise ConfigError(f"{path} does not describe an endpoint: it has no base URL, key or model")
    return _referring(found, literal=literal)


def _is_env(path: Path, text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    named = path.name.startswith(".env") or path.suffix == ".env"
    return named or (
        path.suffix not in (".json", ".toml", ".jsonc") and all(map(_LINE.fullmatch, lines)) and bool(lines)
    )


def _parsed(path: Path, text: str) -> dict[str, Any]:
    """Parses the file as TOML if its extension says so, else as JSON, in which whole lines may be comments."""
    try:
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(_COMMENT.sub("", text))
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"at line \d+, column \d+|at end of document", str(error))
        raise ConfigError(f"{path} is not TOML{', ' + where[0] if where else ''}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno} is not JSON: {error.msg}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply") from None
    except ValueError:  # of thousands of digits
        raise ConfigError(f"{path} has an integer that is too long") from None
    if isinstance(data, list):
        data = {"models": data}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is not an object of options")
    return data


def _from_env(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for match in map(_LINE.fullmatch, text.splitlines()):
        if match is None or match[1] not in _ENVIRONMENT:
            continue
        value = _unquoted(match[2].strip())
        if value:
            found.setdefault(_ENVIRONMENT[match[1]], value)
    return found | ({"variable": _DEFAULT} if "api_key" in found else {})


def _unquoted(value: str) -> str:
    quoted = re.match(r"(['\"])(.*?)\1", value)
    return quoted[2] if quoted else re.split(r"\s#", value, maxsplit=1)[0].strip()


def _from_tables(data: Mapping[str, Any], path: Path, provider: str | None) -> dict[str, Any]:
    """Returns the file's top-level options, overridden by those of the chosen provider."""
    top = _options(data)
    groups = dict(_groups(data, "", _DEEPEST))
    chosen = provider or next((data[name] for name in _CHOSEN if isinstance(data.get(name), str)), None)
    model = top.get("model")
    if chosen is None and isinstance(model, str) and model.partition("/")[0] in groups:
        chosen, _, top["model"] = model.partition("/")
    if chosen is None and len(groups) > 1:
        raise ConfigError(f"{path} holds several providers: choose one with --provider: {', '.join(groups)}")
    if chosen is not None and groups:
        if provider is not None and provider not in groups:
            raise ConfigError(f"{path} has no provider {provider!r}; {there_are(provider, groups)}")
        own = groups.get(chosen, {})  # the file need not describe a provider that the tool knows
    else:
        own = next(iter(groups.values()), {})
    return {**top, **own, **({"model": top["model"]} if "model" in top else {})}


def _groups(data: Mapping[str, Any], name: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the providers that the file describes, with their names: the objects with a URL or a key."""
    for key, value in data.items():
        if not depth or (not name and key.lower() not in _GROUPS and not _is_provider(value)):
            continue
        each = value if isinstance(value, list) else [value]
        for number, item in enumerate(each):
            if not isinstance(item, Mapping):
                continue
            title = (
                item.get("title") or item.get("name") or item.get("id") or (key if len(each) == 1 else f"{key}{number}")
            )
            if _is_provider(item):
                yield str(key if isinstance(value, Mapping) else title), _options(item)
            else:
                yield from _groups(item, key, depth - 1)


def _is_provider(item: Any) -> bool:
    found = _options(item) if isinstance(item, Mapping) else {}
    return "url" in found or "api_key" in found or "variable" in found


def _options(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of an object under our names; `variable` is the environment variable that holds the key."""
    inner = item.get("options")
    names = {str(name).lower().replace("-", "_"): value for name, value in item.items()}
    if isinstance(inner, Mapping):
        names = {str(name).lower().replace("-", "_"): value for name, value in inner.items()} | names
    found: dict[str, Any] = {}
    for ours, theirs in (("url", _URL), ("api_key", _KEY), ("variable", _VARIABLE), ("model", _MODEL)):
        value = next((names[name] for name in theirs if isinstance(names.get(name), str) and names[name]), None)
        if value is not None and (ours != "url" or "://" in value):
            found[ours] = value
    models = names.get("models")
    if "model" not in found and isinstance(models, Mapping | list) and models:
        first = next(iter(models))
        first = first.get("id") or first.get("name") if isinstance(first, Mapping) else first
        found |= {"model": first} if isinstance(first, str) else {}
    if names.get("wire_api") in ("chat", "responses"):
        found["endpoint"] = names["wire_api"]
    fields: Mapping[str, Any] = next((names[name] for name in _HEADERS if isinstance(names.get(name), Mapping)), {})
    from_environment = names.get("env_http_headers")
    if isinstance(from_environment, Mapping):
        fields = {**fields, **{name: f"${{{variable}}}" for name, variable in from_environment.items()}}
    query = names.get("query_params")
    for ours, value in (("headers", fields), ("query", query)):
        if value and isinstance(value, Mapping):
            found[ours] = dict(value)
    return found


def _referring(found: dict[str, Any], *, literal: bool) -> Imported:
    """Returns the config with references in place of secrets, or without them; unless it may hold them (`literal`)."""
    config: dict[str, Any] = {name: found[name] for name in _PLAIN if name in found}
    notes: list[str] = []
    variable, key = found.get("variable"), config.get("api_key")
    if variable and not _is_name(variable):  # the key itself, where the name of a variable should be
        variable, key = None, key or variable
        config["api_key"] = key
    if isinstance(key, str) and _is_reference(key):
        config["api_key"] = _reference(key)
    elif variable and key is None:
        config["api_key"] = f"${{{variable}}}"
    elif key is not None and not literal:
        config["api_key"] = f"${{{variable or _DEFAULT}}}"
        notes.append(
            f"the key is left out: the config refers to {variable or _DEFAULT}, so set that variable to the "
            "key (or use --literal-key, which puts the key itself into the config)"
        )
    if "url" in config and not literal:
        config["url"], left_out = _public_url(config["url"])
        notes += [_LEFT_OUT.format(f"{_named(part)} of url") for part in left_out]
    for name in ("model", "organization", "project", "url"):
        if not literal and looks_secret("", str(config.get(name, ""))):
            del config[name]
            notes.append(_LEFT_OUT.format(name))
    for name in ("headers", "query"):
        given = {key: _reference(str(value)) for key, value in found.get(name, {}).items()}
        hidden = [] if literal else [key for key, value in given.items() if _is_hidden(key, value)]
        config |= {name: kept} if (kept := {key: given[key] for key in given if key not in hidden}) else {}
        notes += [_LEFT_OUT.format(f"{name}.{_named(key)}") for key in hidden]
    return Imported(config, tuple(notes))


def _public_url(url: str) -> tuple[str, list[str]]:
    """Returns a URL without its parts that may be secret, and the names of these parts."""
    head, has_user, place = url.rpartition("@")
    scheme = head.partition("://")[0] + "://" if has_user else ""
    rest, _, fragment = (scheme + place).partition("#")
    base, _, query = rest.partition("?")
    base, *more = re.split(r"[;&]", base, maxsplit=1)
    shown = bare_url(base).replace(f":{MASK}", "")  # without a password that stands where a port belongs
    pairs = parse_qsl(query, keep_blank_values=True)
    kept = [(name, value) for name, value in pairs if not _is_hidden(name, value)]
    left_out = [*(["user"] if has_user else []), *(name for name, value in pairs if (name, value) not in kept)]
    left_out += [*(["fragment"] if fragment else []), *(["end of the path"] if more else [])]
    left_out += ["port"] if shown != base else []
    return shown + (f"?{urlencode(kept, safe='${}')}" if kept else ""), left_out


def _reference(value: str) -> str:
    """Returns a value with a reference to the environment in our notation."""
    match = _REFERENCE.fullmatch(value) if _is_reference(value) else None
    return value if match is None else f"${{{next(filter(None, match.groups()))}}}"


def _is_hidden(name: str, value: str) -> bool:
    """Returns whether a header or parameter may hold a secret: any that is neither well known nor a reference."""
    if _is_reference(value):
        return _named(name) != name
    return name.lower() not in _PUBLIC or looks_secret(name, value) or "@" in value or "?" in value


def _is_reference(value: str) -> bool:
    """Returns whether a value consists of references to environment variables, apart from `Bearer`."""
    names = [next(filter(None, found)) for found in _REFERENCE.findall(value)]
    return bool(names) and all(map(_is_name, names)) and _REFERENCE.sub("", value).strip() in ("", "Bearer")


def _is_name(text: str) -> bool:
    """Returns whether a text is the name of a variable, rather than a key in its place."""
    is_capital = text.isupper() and "_" in text
    return re.fullmatch(r"[A-Za-z_]\w*", text) is not None and (
        is_capital or not (looks_secret("", text) or is_dense(text))
    )


def _named(name: str) -> str:
    """Returns a name as notes show it: a key may stand where a name belongs."""
    return MASK if looks_secret("", name) or any(map(is_dense, re.split(r"[-_.]", name))) else name
