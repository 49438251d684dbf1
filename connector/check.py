"""`check`: says in plain words what is wrong with a config and what to change, step by step, cheapest first."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import urlsplit

from connector.client import Client
from connector.clock import Clock
from connector.errors import BadRequestError, ConfigError, ConnectorError, NotFoundError
from connector.faults import error_of, refusal
from connector.masking import Masker
from connector.plan import Plan
from connector.records import Reply
from connector.runtime import transport_of
from connector.streams import Diagnosis, Step
from connector.transport import Transport
from connector.values import dumps, loads

_OK: Final = range(200, 300)
_ASKS_FOR_OTHER_CAP: Final = "max_completion_tokens"


def diagnose(plan: Plan, clock: Clock | None = None) -> Diagnosis:
    """Asks the endpoint for its models, which is free, and then for one token, which proves everything else."""
    mask = Masker(plan.config.secrets)
    transport = transport_of(plan.config)
    try:
        return Diagnosis(tuple(_until_failure(_steps(plan, transport, mask, clock or Clock()))))
    finally:
        transport.close()


def refused(error: ConfigError) -> Diagnosis:
    """The diagnosis of a config that cannot work as it stands."""
    return Diagnosis((Step("config", False, error.message),))


def _until_failure(steps: Iterator[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        if not step.ok:
            return


def _steps(plan: Plan, transport: Transport, mask: Masker, clock: Clock) -> Iterator[Step]:
    config = plan.config
    models: list[str] = []
    try:
        models = _models(transport, config.base_url, mask)
    except NotFoundError:
        yield Step("models", True, f"{config.base_url}/models lists no models; going on without")
    except BadRequestError as error:
        yield Step("models", True, f"the list of models cannot be had: {error.message}")
    except ConnectorError as error:
        yield Step(_name(error), False, error.message)
        return
    else:
        yield Step("reachability", True, f"{config.base_url} answers and lists {len(models)} models")
    try:
        reply = _smallest(plan, transport, mask, clock)
    except NotFoundError as error:
        yield Step("endpoint", False, " ".join([error.message, *_hints(plan, transport, models)]))
    except ConnectorError as error:
        yield Step(_name(error), False, error.message)
    else:
        yield _answered(plan, reply)


def _answered(plan: Plan, reply: Reply) -> Step:
    if reply.status not in _OK:
        return Step("request", False, refusal(reply).message)
    usage = plan.endpoint.answer(reply.body).usage
    tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    return Step("request", True, f"{plan.url} answers; asking it used {tokens or 'an unknown number of'} tokens")


def _models(transport: Transport, base_url: str, mask: Masker) -> list[str]:
    response = transport.get(f"{base_url}/models")
    try:
        data = response.read()
    finally:
        response.close()
    if response.status not in _OK:
        raise error_of(response.status, response.headers, data, mask=mask)
    try:
        listed = loads(data)
    except ValueError:
        raise BadRequestError("it is not JSON: does url point to an API?") from None
    models = listed.get("data", listed.get("models")) if isinstance(listed, dict) else listed
    return [str(each["id"]) for each in models or () if isinstance(each, dict) and "id" in each]


def _smallest(plan: Plan, transport: Transport, mask: Masker, clock: Clock) -> Reply:
    """The minimal request's reply; with the other name of the token cap where the endpoint asks for that one."""
    client = Client(transport, plan.endpoint, plan.url, mask, clock)
    model = plan.model
    body: dict[str, Any] = plan.endpoint.minimal({"model": model} if model else {})
    reply = client(dumps(body))
    if reply.status not in _OK and _ASKS_FOR_OTHER_CAP in str(reply.body):
        cap = body.pop("max_tokens", 1)
        reply = client(dumps({**body, _ASKS_FOR_OTHER_CAP: cap}))
    return reply


def _hints(plan: Plan, transport: Transport, models: list[str]) -> Iterator[str]:
    """What may be meant instead: a URL that answers, tried for free, or a model with a similar name."""
    base = plan.config.base_url
    path = urlsplit(base).path
    meant = base.replace("/v1/v1", "/v1") if "/v1/v1" in path else None if "/v1" in path else f"{base}/v1"
    if meant is not None:
        try:
            _models(transport, meant, Masker())
        except ConnectorError as error:
            if isinstance(error, NotFoundError | BadRequestError) or error.http_status is None:
                meant = None
    if meant is not None:
        yield f"{meant}{plan.endpoint.PATH} answers: set url to that."
    if plan.model and models and plan.model not in models:
        near = get_close_matches(plan.model, models, n=3, cutoff=0.4) or models[:3]
        yield f'There is no model "{plan.model}"; there are: {", ".join(near)}.'


def _name(error: ConnectorError) -> str:
    return type(error).__name__.removesuffix("Error")
