"""Broken set-ups as people make them, and the words that tell what to change.

`python -m tests.broken` runs `enrich` with each, and times it from Enter to its end: for a person's eyes. The tests
that use the table count what is done, and measure no time (`tests/commands/test_fail_fast.py`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from textwrap import indent
from typing import Any, Final, NamedTuple

from tests.check.helpers import answer, offering, posted, refusing, tls_server
from tests.endpoint import Action, Call, Endpoint, swallowing
from tests.endpoint import refusing as refusing_port

ROWS: Final = 40
"""More than are needed to see that none can succeed."""

Options = dict[str, str]
Script = Callable[[Call], Action | None]


class Broken(NamedTuple):
    """A set-up: what it is called, how the servers are started and which options it has, and the words that tell it."""

    name: str
    start: Callable[[Path], AbstractContextManager[Options]]
    told: tuple[str, ...]


def arguments(options: Options, folder: Path) -> list[str]:
    """The command line of a set-up, on a table of its own in a folder."""
    table = folder / "in.csv"
    table.write_text("id,text\n" + "".join(f"{number},row {number}\n" for number in range(ROWS)))
    given = {"--output": str(folder / "out.jsonl"), "--model": "gpt-4o-mini", "--prompt": "{{ text }}", **options}
    source = given.pop("INPUT", str(table))
    config = given.pop("CONFIG", None)
    if config is not None:
        (folder / "c.json").write_text(config)
        given["--config"] = str(folder / "c.json")
    return ["enrich", source, *(word for option, value in given.items() if value for word in (option, value))]


def _alone(**options: str) -> Callable[[Path], AbstractContextManager[Options]]:
    """A set-up that needs no server: what is wrong can be seen without a call."""
    return lambda _: nullcontext({"--url": "http://127.0.0.1:9/v1", **_named(options)})


def _named(options: dict[str, str]) -> Options:
    return {name if name.isupper() else f"--{name.replace('_', '-')}": value for name, value in options.items()}


def _at(
    path: str = "/v1", script: Script | None = None, scheme: str = "http", **options: str
) -> Callable[[Path], AbstractContextManager[Options]]:
    """A set-up with a server that answers as a script says."""

    @contextmanager
    def start(_: Path) -> Iterator[Options]:
        with Endpoint(script) as endpoint:
            yield {"--url": endpoint.origin.replace("http:", f"{scheme}:") + path, **_named(options)}

    return start


def _tls(name: str, scheme: str = "https", **tls: Any) -> Callable[[Path], AbstractContextManager[Options]]:
    @contextmanager
    def start(folder: Path) -> Iterator[Options]:
        with tls_server(folder, name, **tls) as port:
            bundle = (
                {}
                if name == "IP:127.0.0.1" and not tls.get("expired")
                else {"CONFIG": f'{{"ca_bundle": "{folder}/cert.pem"}}'}
            )
            yield {"--url": f"{scheme}://127.0.0.1:{port}/v1", **bundle}

    return start


@contextmanager
def _closed_port(_: Path) -> Iterator[Options]:
    with refusing_port() as url:
        yield {"--url": url}


@contextmanager
def _closed_proxy(_: Path) -> Iterator[Options]:
    with refusing_port() as url, Endpoint() as endpoint:
        yield {"--url": endpoint.base_url, "CONFIG": f'{{"proxy": "{url.partition("/v1")[0]}"}}'}


@contextmanager
def _silent_host(_: Path) -> Iterator[Options]:
    with swallowing() as port:
        yield {"--url": f"http://127.0.0.1:{port}/v1", "CONFIG": '{"config": {"connect_timeout": 0.5}}'}


@contextmanager
def _moved(_: Path) -> Iterator[Options]:
    with Endpoint() as there:
        moved = answer(301, "", "text/plain", f"location: {there.url}")
        with Endpoint(lambda _: moved) as here:
            yield {"--url": here.base_url}


def _no_model(body: dict[str, Any]) -> Action | None:
    name = body.get("model")
    if name == "text-embedding-3-small":
        return refusing(404, "This is not a chat model and thus not supported in the v1/chat/completions endpoint.")
    return (
        None if name == "gpt-4o-mini" else refusing(404, f"The model `{name}` does not exist", code="model_not_found")
    )


def _always(status: int, message: str, **error: Any) -> Script:
    return posted(lambda _: refusing(status, message, **error))


def _keyless(call: Call) -> Action | None:
    is_known = call.headers.get("authorization") == "Bearer sk-good" or "api-key" in call.headers
    return None if is_known else refusing(401, "Incorrect API key provided")


def _azure(call: Call) -> Action | None:
    return None if "api-key" in call.headers else answer(401, {"error": {"code": "401", "message": "Access denied"}})


def _completions(call: Call) -> Action | None:
    return answer(404, {"detail": "Not Found"}) if call.method == "POST" and call.kind != "completions" else None


def _without(name: str) -> Script:
    return posted(lambda body: refusing(400, f"Unsupported parameter: '{name}'", param=name) if name in body else None)


_REQUEST: Final = '{"model": "gpt-4o-mini", "top_k": 1, "messages": [{"role": "user", "content": "{{ text }}"}]}'
_PAGE: Final = answer(200, "<!doctype html><title>Hi</title>", "text/html")

TABLE: Final = (
    # the config alone
    Broken("scheme misspelt", _alone(url="htps://api.openai.com/v1"), ("did you mean https://api.openai.com/v1?",)),
    Broken("no scheme", _alone(url="api.openai.com/v1"), ("did you mean https://api.openai.com/v1?",)),
    Broken("local, no scheme", _alone(url="localhost:8000/v1"), ("did you mean http://localhost:8000/v1?",)),
    Broken("one slash", _alone(url="http:/localhost:8000/v1"), ("did you mean http://localhost:8000/v1?",)),
    Broken("variable not set", _alone(CONFIG='{"api_key": "${NO_SUCH_NAME}"}'), ("NO_SUCH_NAME", "is not set")),
    Broken("time-out no number", _alone(CONFIG='{"config": {"timeout": "abc"}}'), ("config.timeout", "abc")),
    Broken("request no JSON", _alone(prompt="", CONFIG='{"request_format": "{"}'), ("request_format", "is not JSON")),
    Broken("template broken", _alone(prompt="{{ text"), ("prompt: ", "is not a valid template")),
    Broken("filter unknown", _alone(prompt="{{ text | shout }}"), ("prompt: ", "shout")),
    Broken("no prompt", _alone(prompt=""), ("request_format", "is missing")),
    Broken("column missing", _alone(prompt="{{ review }}"), ('no column "review"', "there are: id, text")),
    Broken("input missing", _alone(INPUT="nowhere.csv"), ("nowhere.csv",)),
    Broken("proxy no URL", _alone(CONFIG='{"proxy": "proxy:3128"}'), ("proxy", "http://host:port")),
    Broken("no CA bundle", _alone(CONFIG='{"ca_bundle": "nowhere.pem"}'), ("ca_bundle", "PEM")),
    # no connection
    Broken("port closed", _closed_port, ("refuses connections: check host and port",)),
    Broken("host unknown", _alone(url="https://no-such-host.invalid/v1"), ("no-such-host.invalid is not known",)),
    Broken("host silent", _silent_host, ("does not answer",)),
    Broken(
        "https at http", _at(scheme="https", CONFIG='{"config": {"connect_timeout": 0.5}}'), ("/v1 answers: set url",)
    ),
    Broken("http at https", _tls("IP:127.0.0.1", "http"), ("https://127.0.0.1:", "/v1 answers: set url to that")),
    Broken(
        "http at https that says so",
        _tls("IP:127.0.0.1", "http", alerts=True),
        ("speaks TLS", "; https://127.0.0.1:", "/v1 answers: set url to that"),
    ),
    Broken("self-signed", _tls("IP:127.0.0.1"), ("is self-signed: set ca_bundle",)),
    Broken("other name", _tls("DNS:api.example"), ("issued for",)),
    Broken("expired", _tls("IP:127.0.0.1", expired=True), ("has expired: renew it",)),
    Broken("proxy closed", _closed_proxy, ("the proxy", "refuses connections", "remove proxy")),
    # the path
    Broken("no /v1", _at("", offering()), ("nothing answers", "/v1/chat/completions answers: set url to that")),
    Broken("two /v1", _at("/v1/v1", offering()), ("/v1/chat/completions answers: set url to that",)),
    Broken("/v2", _at("/v2", offering()), ("/v1/chat/completions answers: set url to that",)),
    Broken("half a path", _at("/v1/chat", offering()), ("/v1/chat/completions answers: set url to that",)),
    Broken("other API", _at("/api/v0", offering()), ("/v1/chat/completions answers: set url to that",)),
    Broken("web page", _at("/v1", lambda _: _PAGE), ("a web page", "set url to the base URL of an API")),
    Broken("moved", _moved, ("redirects to", "set url to that")),
    # the key
    Broken("key wrong", _at("/v1", _keyless, CONFIG='{"api_key": "sk-wrong-one-1234"}'), ("wrong, expired",)),
    Broken("no key", _at("/v1", _keyless), ("needs a key, and none was sent",)),
    Broken("key quoted", _at("/v1", _keyless, CONFIG='{"api_key": "\\"sk-good\\""}'), ("quotation marks",)),
    Broken("key of another", _at("/v1", _keyless, CONFIG='{"api_key": "gsk_abcdefgh12345678"}'), ("Groq",)),
    Broken(
        "key in another field",
        _at("/openai/deployments/d/chat/completions?api-version=1", _azure, CONFIG='{"api_key": "0123456789abcdef"}'),
        ('set auth to "api-key"',),
    ),
    Broken("key refused by 400", _at("/v1", _always(400, "Invalid API key given")), ("needs a key",)),
    Broken("region", _at("/v1", _always(403, "Country not supported")), ("not served where you are",)),
    Broken("right missing", _at("/v1", _always(403, "Project has no access")), ('another model than "gpt-4o-mini"',)),
    Broken("no credit", _at("/v1", _always(429, "Over quota", code="insufficient_quota")), ("no credit left",)),
    # the model
    Broken("model misspelt", _at("/v1", posted(_no_model), model="gpt-4o-mni"), ("did you mean gpt-4o-mini",)),
    Broken("model unknown", _at("/v1", posted(_no_model), model="zephyr"), ("there are: gpt-4o-mini",)),
    Broken(
        "model of another kind",
        _at("/v1", posted(_no_model), model="text-embedding-3-small"),
        ("for embeddings, not for chat",),
    ),
    Broken("model refused by 400", _at("/v1", _always(400, "invalid model name"), model="gpt4"), ("did you mean",)),
    # the request
    Broken("completions only", _at("/v1", offering(_completions)), ("has no chat endpoint",)),
    Broken(
        "parameter refused",
        _at("/v1", _without("top_k"), prompt="", CONFIG=f'{{"request_format": {_REQUEST}}}'),
        ("top_k",),
    ),
)


def main() -> None:
    """Times each set-up, and prints what it says."""
    for broken in TABLE:
        with tempfile.TemporaryDirectory() as name, broken.start(Path(name)) as options:
            command = [sys.executable, "-m", "connector", *arguments(options, Path(name))]
            began = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            seconds = time.monotonic() - began
        missing = [words for words in broken.told if words not in done.stderr]
        sys.stdout.write(
            f"{seconds:6.2f} s  exit {done.returncode}  {broken.name:<22}{f' lacks {missing}' if missing else ''}\n"
        )
        sys.stdout.write(indent(done.stderr, " " * 10))


if __name__ == "__main__":
    main()
