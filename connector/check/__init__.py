"""`check`: finds what is wrong with a config, and says in plain words what to change.

The steps, cheapest first: the form of the URL, whether the server can be reached, the key, the endpoint, the model, and
a request like those of a run. Free calls come first, and the diagnosis says what was paid. All steps together take at
most `config.timeout`.

This folder probes, compares and advises. What an error body means does not belong here but in `replies`, and what a
kind of endpoint needs belongs in `endpoints`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from connector.base.amounts import counted
from connector.base.clock import Clock
from connector.base.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigError,
    ConnectorError,
    CutError,
    NotFoundError,
    OutageError,
    ReplyError,
    RetryableError,
    TemplateError,
    parted,
)
from connector.base.records import Reply, Schema, is_ok
from connector.base.streams import Diagnosis, Step
from connector.base.values import dumps
from connector.check import _address, _key, _model, _reach, _refusal, _request
from connector.check._config import advised
from connector.check.probe import Probe, ProbeResponse
from connector.run.plan import Plan
from connector.run.runtime import Runtime

_PATIENCE: Final = 3.0  # seconds for the first try to list models
_SHORT: Final = 4 * _PATIENCE  # with less time than this, there is only one try
_AFTER_A_RUN: Final = 1.8  # seconds for the diagnosis of a run that has just failed


def diagnose(
    plan: Plan,
    clock: Clock | None = None,
    *,
    columns: Mapping[str, Schema] | None = None,
    row: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Lists the endpoint's models, which is free, and then makes a request like those of a run, for one token.

    Args:
        columns: The input's columns with their schemas, if known.
        row: The input's first row, if known: the request is made from it.
    """
    return run(Probe(plan, clock or Clock()), columns=columns, row=row)


def run(
    probe: Probe,
    *,
    columns: Mapping[str, Schema] | None = None,
    row: Mapping[str, Any] | None = None,
    unreached: ConnectorError | None = None,
) -> Diagnosis:
    """Like `diagnose`, with the caller's own probe, which can be used for further questions afterwards.

    Args:
        unreached: Why the server cannot be reached, if that is already known.
    """
    steps: list[Step] = []
    try:
        for step in _steps(probe, columns or {}, row, unreached):
            steps.append(step._replace(finding=probe.mask(step.finding)))
            if not step.ok:
                break
    except ConfigError as error:
        steps.append(Step("config", False, probe.mask(advised(error))))
    except ConnectorError as error:
        steps.append(Step("request", False, probe.mask(error.message)))
    last = steps[-1]
    return Diagnosis((*(step for step in steps[:-1] if step.name != last.name), last))


@contextmanager
def explaining(runtime: Runtime) -> Iterator[None]:
    """Adds a diagnosis to an error that ends the run of `runtime` in its block before any call has succeeded.

    The diagnosis says what is wrong and what to change. If it finds nothing, the error is raised as it is.
    """
    try:
        yield
    except (AuthenticationError, NotFoundError, OutageError) as error:
        if not runtime.control.breaker.has_succeeded:
            probe = Probe(runtime.plan, runtime.control.clock, seconds=_AFTER_A_RUN)
            diagnosis = run(probe, unreached=_unreached(error))
            found = diagnosis.message
            if not (diagnosis.ok or probe.has_run_out or found in error.message):
                paid = f" ({probe.bill})" if probe.paid else ""
                wrong, _ = parted(error.message)  # the diagnosis says what to change
                error.message = f"{wrong}\n  {diagnosis.steps[-1].name}: {found}{paid}"
        raise


def invalid_config(error: ConfigError) -> Diagnosis:
    """Returns the diagnosis of a config that cannot work as it stands."""
    return Diagnosis((Step("config", False, advised(error)),))


def _unreached(error: ConnectorError) -> ConnectorError | None:
    """Returns the error if it means that the run reached no server."""
    return error.__cause__ if isinstance(error.__cause__, RetryableError) else None


def _steps(
    probe: Probe, columns: Mapping[str, Schema], row: Mapping[str, Any] | None, unreached: ConnectorError | None
) -> Iterator[Step]:
    config = probe.config
    key = _key.problem(config) or probe.unmade()
    probe.keyless = key is not None
    unknown = _reach.unresolved(probe)
    if unknown is not None:
        yield Step("reachability", False, unknown)
        return
    offered: list[str] = []
    listing = unreached
    try:
        offered = [] if unreached else _offered(probe)
    except ConfigError:
        raise
    except ConnectorError as error:
        listing = error
    if listing is not None and (unreached or _is_unreachable(listing)):
        yield _failed(*_reach.explained(probe, listing))
        return
    yield Step("url", True, _address.form(probe))
    models = _unlisted(listing) if listing else f" and lists {counted(len(offered), 'model')}"
    yield Step("reachability", True, f"{config.base_url} answers{models}")
    if key is not None:
        yield Step("key", False, key)
        return
    if isinstance(listing, NotFoundError | ReplyError | BadRequestError):
        missing = _missing(probe)
        if missing is not None:
            yield _failed(*_address.missing_endpoint(probe, missing.summary, missing.target, lists_models=False))
            return
    yield from _asked(probe, listing or offered, columns, row)


def _offered(probe: Probe) -> list[str]:
    """Returns the models that the server lists.

    A server that gets a TLS handshake where it expects plain HTTP, or the other way round, may wait for more and stay
    silent. So after a few seconds the other scheme is tried, before the list gets all the time that is left.
    """
    if probe.left() > _SHORT:
        try:
            return [each.id for each in probe.models(seconds=_PATIENCE)]
        except APITimeoutError as error:
            if _reach.other_scheme(probe) is not None:
                raise APIConnectionError(error.message) from error
    return [each.id for each in probe.models()]


def _asked(
    probe: Probe,
    listing: list[str] | ConnectorError,
    columns: Mapping[str, Schema],
    row: Mapping[str, Any] | None,
) -> Iterator[Step]:
    """Yields the steps that need a request: the endpoint, the model, and the parameters."""
    plan, offered = probe.plan, listing if isinstance(listing, list) else []
    body, note = _body(plan, columns, row)
    wrong = _request.missing_content(plan, body)
    if wrong is not None:
        yield Step("endpoint", False, wrong)
        return
    named = body.get("model")
    model = named if isinstance(named, str) else None
    if plan.endpoint.COSTLY:
        missing = _missing(probe)
        if missing is not None:
            yield _failed(
                *_address.missing_endpoint(probe, missing.summary, missing.target, lists_models=bool(offered))
            )
            return
        yield from _untried(probe, f"it {plan.endpoint.COSTLY}")
        return
    result, fallbacks = _request.asked(probe, body)
    if not _request.is_answer(result):
        step, finding = _refusal.explained(probe, body, result, model, listing)
        if step == "model" and row is None and plan.requests.picks_model:  # a made-up row names no model that exists
            yield from _untried(probe, "each row names its own model")
            return
        yield _failed(step, finding)
        return
    if isinstance(result, Reply) and is_ok(result.status):
        hidden = _hidden_problem(probe, result, None if note else row or _request.sample(plan, columns))
        if hidden is not None:
            yield hidden
            return
    yield Step("key", True, _key.accepted(plan.config))
    yield Step("endpoint", True, f"{plan.config.kind} at {plan.url}")
    yield Step(
        "model", True, _model.answered(model, offered, plan.config.kind, plan.endpoint.answer(_body_of(result)).model)
    )
    if probe.config.max_cost_usd is not None and probe.cost is None:
        told = "max_cost_usd cannot be kept, since the endpoint reports no cost: set prices, or use max_total_tokens"
        yield Step("budget", False, told)
        return
    remembered = ", as later runs will use it" if set(fallbacks) <= set(probe.fallbacks.names(dumps(body))) else ""
    otherwise = f"; with another form of request{remembered}: {', '.join(fallbacks)}" if fallbacks else ""
    yield Step("request", True, f"{plan.url} answers{otherwise}{note}; {probe.bill}")


def _untried(probe: Probe, why: str) -> Iterator[Step]:
    yield Step("endpoint", True, f"{probe.plan.config.kind} at {probe.plan.url}")
    yield Step("request", True, f"not tried, since {why}; {probe.bill}")


def _hidden_problem(probe: Probe, reply: Reply, row: Mapping[str, Any] | None) -> Step | None:
    """Returns what would fail in a run although the endpoint answers; `row` is `None` if no row is known."""
    foreign = _request.foreign_reply(probe.plan, reply.body)
    if foreign is not None:
        return Step("endpoint", False, foreign)
    cap = None if row is None else _request.refused_cap(probe, row)
    if cap is not None:
        return Step("parameters", False, cap)
    misfit = None if row is None else _request.misfit(probe.plan, reply)
    if misfit is not None:
        return Step("output_schema", False, misfit)
    unknown = _request.unknown_names(probe.plan, reply)
    return None if unknown is None else Step("response_format", False, unknown)


def _body_of(result: Reply | ConnectorError) -> dict[str, Any]:
    return result.body if isinstance(result, Reply) else {}


def _body(plan: Plan, columns: Mapping[str, Schema], row: Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    """Returns the request to make, and a note about it for the diagnosis."""
    if row is not None:
        try:
            return _request.rendered(plan, row), ""
        except TemplateError as error:
            raise ConfigError(f"the first row cannot be sent: {error.message}") from None
    try:
        return _request.rendered(plan, _request.sample(plan, columns)), ""
    except TemplateError:
        model = {"model": plan.requests.model} if plan.requests.model else {}
        return plan.endpoint.minimal(model), "; request_format was not tried, since it needs the values of a real row"


def _missing(probe: Probe) -> ProbeResponse | None:
    """Tests, for free, whether the URL is an endpoint; returns the response if it is not."""
    url = probe.plan.url
    if not probe.plan.endpoint.OVER_HTTP or probe.is_endpoint(url):
        return None
    try:
        return probe.touch(url)
    except ConnectorError:
        return None  # the request itself will show it


def _is_unreachable(error: ConnectorError) -> bool:
    """Returns whether an error means that the server cannot be reached at all."""
    if isinstance(error, APITimeoutError):
        return not error.is_connected or "did not answer" in error.message
    return isinstance(error, APIConnectionError | CutError) or (
        isinstance(error, ReplyError) and "not valid HTTP" in error.message
    )


def _unlisted(error: ConnectorError) -> str:
    return f", but does not list its models ({error.message})"


def _failed(step: str, finding: str) -> Step:
    return Step(step, False, finding)
