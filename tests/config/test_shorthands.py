"""A config may list models: `model` picks one, and request, provenance and cost go by it."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from connector import Config, ConfigError, Connector, TemplateError
from connector.config.shorthands import chosen_model, constants_of, names_of, prices_of
from connector.run.plan import Plan
from tests.endpoint import Endpoint

FAST = {"name": "fast", "id": "gpt-4o-mini", "max_tokens": 50, "temperature": 0, "input_price": 1.0, "output_price": 10}
BIG = {"name": "big", "id": "gpt-4o", "kind": "chat", "region": "eu", "description": "for hard rows"}
MODELS = [FAST, BIG]


def config(**options: Any) -> Config:
    return Config(**{"models": MODELS, "prompt": "{{ t }}", **options})


def request(**options: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(Plan(config(**options)).requests.body({"t": "a"}))
    return body


@pytest.mark.parametrize(
    ("picked", "found"), [("fast", "gpt-4o-mini"), ("gpt-4o-mini", "gpt-4o-mini"), ("big", "gpt-4o")]
)
def test_a_model_is_picked_by_its_name_or_its_id(picked: str, found: str) -> None:
    chosen = chosen_model(config(model=picked))
    assert chosen is not None
    assert chosen.id == found


def test_the_only_model_need_not_be_picked() -> None:
    chosen = chosen_model(config(models=[BIG]))
    assert chosen is not None
    assert chosen.name == "big"


@pytest.mark.parametrize(
    ("picked", "told"),
    [
        (None, "model: is missing: pick one of models; there are: fast, big"),
        ("fats", "no 'fats' in models; there are: fast"),
    ],
)
def test_a_model_that_is_not_listed_is_reported_with_those_that_are(picked: str | None, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Plan(config(model=picked))
    assert told in caught.value.message


def test_a_list_may_be_json_text_and_a_wrong_one_is_reported() -> None:
    assert chosen_model(config(models=json.dumps(MODELS), model="big")) == chosen_model(config(model="big"))
    with pytest.raises(ConfigError, match=r"models\[0\]\.id: "):
        config(models=[{"name": "a"}])
    with pytest.raises(ConfigError, match=r"models\[0\]\.price: "):
        config(models=[{"name": "a", "id": "b", "price": 1}])
    with pytest.raises(ConfigError, match=r"models\[0\]\.input_price: "):
        config(models=[{"name": "a", "id": "b", "input_price": -1}])


def test_a_request_made_from_a_prompt_takes_what_the_list_says() -> None:
    asked = {"messages": [{"role": "user", "content": "a"}]}
    assert request(model="fast") == {"model": "gpt-4o-mini", "max_tokens": 50, "temperature": 0, **asked}
    assert request(model="big") == {"model": "gpt-4o", **asked}


def test_a_request_format_may_refer_to_the_chosen_model() -> None:
    body = {"model": "{{ model.id }}", "max_tokens": "{{ model.max_tokens }}", "user": "{{ model.region }}-{{ t }}"}
    assert request(model="big", request_format=body) == {"model": "gpt-4o", "max_tokens": None, "user": "eu-a"}
    assert request(model="fast", request_format={**body, "user": "x"})["max_tokens"] == 50
    plan = Plan(config(model="big", request_format=body), ["t"])
    assert plan.requests.model == "gpt-4o"


def test_a_column_called_model_comes_after_the_chosen_one() -> None:
    """A row must not choose what is paid for: its column is in `record`, for those who write that."""
    plan = Plan(
        config(model="big", request_format={"model": "{{ model.id }}", "user": "{{ record.model }}"}), ["model"]
    )
    assert json.loads(plan.requests.body({"model": "of the row"})) == {"model": "gpt-4o", "user": "of the row"}


def test_prices_are_those_of_the_chosen_model_unless_configured() -> None:
    fast = prices_of(config(model="fast"))
    assert fast is not None
    assert (fast.input, fast.output) == (1.0, 10.0)
    assert prices_of(config(model="big")) is None
    own = prices_of(config(model="fast", prices={"input": 2}))
    assert own is not None
    assert own.input == 2


def test_without_a_list_there_is_nothing_to_choose() -> None:
    plain = Config(model="m", prompt="{{ t }}")
    assert (chosen_model(plain), prices_of(plain), constants_of(plain)) == (None, None, {})
    assert Plan(plain).requests.model == "m"


CAR: Final = {"model": "Punto", "tier": "pro"}
"""A row with a column named as the option is."""


@pytest.mark.parametrize(
    ("asked", "more", "called"),
    [
        ("{{ model }}", {"model": "m"}, "m"),
        ("{{ model | upper }}", {"model": "m"}, "M"),
        ("{{ tier }}/{{ model }}", {"model": "m"}, "pro/m"),
        ("{{ tier }}/{{ model }}", {"model": '"{{ tier }}"'}, 'pro/"{{ tier }}"'),
        ("{{ model }}", {"model": "{{ tier }}"}, "{{ tier }}"),
        ("{{ model.id }}", {"models": [{"name": "x", "id": "m"}]}, "m"),
        ("{{ model }}", {}, "Punto"),
        ("{{ record.model }}", {"model": "m"}, "Punto"),
        ("fixed", {"model": "m"}, "fixed"),
    ],
)
def test_the_config_s_model_comes_before_a_column_where_a_request_format_names_the_model(
    asked: str, more: dict[str, Any], called: str
) -> None:
    text = "Sell {{ record.model }}" if "models" in more else "Sell {{ model }}"
    format_ = {"model": asked, "messages": [{"role": "user", "content": text}]}
    for given in (format_, json.dumps(format_)):
        requests = Plan(Config(url="http://localhost/v1", request_format=given, **more)).requests
        body = json.loads(requests.body(CAR))
        assert (body["model"], body["messages"][0]["content"]) == (called, "Sell Punto")
        if "{" not in called and called not in ("Punto", "pro/m"):
            assert requests.model == called


def test_the_config_s_model_comes_before_a_column_in_a_list_of_models_to_try() -> None:
    format_ = {"models": ["{{ model }}", "spare", 1], "messages": [{"role": "user", "content": "Sell {{ model }}"}]}
    requests = Plan(Config(url="http://localhost/v1", model="m", request_format=format_)).requests
    body = json.loads(requests.body(CAR))
    assert (body["models"], body["messages"][0]["content"]) == (["m", "spare", 1], "Sell Punto")


def test_a_column_of_objects_called_model_is_read_as_one() -> None:
    format_ = {"model": "{{ model }}", "messages": [{"role": "user", "content": "Sell {{ model.name }}"}]}
    requests = Plan(Config(url="http://localhost/v1", model="m", request_format=format_)).requests
    body = json.loads(requests.body({"model": {"name": "Punto"}}))
    assert (body["model"], body["messages"][0]["content"]) == ("m", "Sell Punto")


@pytest.mark.parametrize(
    ("format_", "told"),
    [
        (
            '{"model": "{{ model }}"{% if t %}, "user": "u"{% endif %}}',
            "request_format: `model` could be the config's or",
        ),
        ({"model": "{{ model.id }}"}, r"request_format.model: '{{ model.id }}' cannot be made of the config's model"),
    ],
)
def test_a_request_format_that_could_mean_another_model_is_refused(format_: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Plan(Config(url="http://localhost/v1", model="m", request_format=format_))


def test_an_entry_of_models_is_not_sent_as_the_model() -> None:
    with pytest.raises(ConfigError, match=r"request_format.model: '{{ model }}' is the whole entry .*{{ model.id }}"):
        Plan(config(prompt=None, request_format={"model": "{{ model }}", "messages": []}, model="big"))


def test_an_error_of_the_model_s_template_quotes_it_as_it_is_written() -> None:
    format_ = {"model": "{{ tier }}/{{ model.name }}", "messages": []}
    requests = Plan(Config(url="http://localhost/v1", model="m", request_format=format_)).requests
    with pytest.raises(TemplateError, match=r"'{{ tier }}/{{ model.name }}' fails on this row"):
        requests.body({"tier": "pro"})


def test_a_request_format_does_not_take_its_model_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "m")
    format_ = {"model": "{{ model }}", "messages": []}
    assert Config(request_format=format_).model is None
    assert config(prompt=None, request_format=format_).model == "m"  # one of `models`
    assert Config(prompt="{{ t }}").model == "m"


def test_a_prompt_and_a_condition_read_a_column_called_model(endpoint: Endpoint) -> None:
    more = {"model": "m", "prompt": "Sell the {{ model }}", "where": "{{ model == 'Punto' }}"}
    rows = Connector({"url": endpoint.base_url, **more}).enrich([{"model": "Punto"}, {"model": "Panda"}])
    assert [row["_llm"]["status"] for row in rows] == ["success", "skipped"]
    (call,) = endpoint.journal.calls
    assert (call.body["model"], call.body["messages"][-1]["content"]) == ("m", "Sell the Punto")


def test_provenance_and_cost_go_by_the_chosen_model(endpoint: Endpoint) -> None:
    (row,) = Connector(config(url=endpoint.base_url, model="fast")).enrich([{"t": "a"}])
    told = row["_llm"]
    assert told["model"] == "gpt-4o-mini"
    assert told["cost_usd"] == pytest.approx((told["input_tokens"] + 10 * told["output_tokens"]) / 1e6)
    (call,) = endpoint.journal.calls
    assert call.body["model"] == "gpt-4o-mini"


def test_each_stream_may_pick_its_own(endpoint: Endpoint) -> None:
    streams = {"a": {"model": "fast"}, "b": {"model": "big"}}
    transform = Connector(config(url=endpoint.base_url, streams=streams, model="big")).transform()
    assert transform.plan.requests.model == "gpt-4o-mini"


def test_check_asks_the_chosen_model(endpoint: Endpoint) -> None:
    diagnosis = Connector(config(url=endpoint.base_url, model="fast")).check()
    assert diagnosis.ok
    (paid,) = [call for call in endpoint.journal.calls if call.action == "answer"]
    assert (paid.body["model"], paid.body["max_tokens"]) == ("gpt-4o-mini", 1)
    assert "1 small request, $" in diagnosis.message


@pytest.mark.parametrize(("option", "names"), [(None, ()), ("", ()), ("a", ("a",)), (" a, b ,", ("a", "b"))])
def test_names_are_separated_by_commas(option: str | None, names: tuple[str, ...]) -> None:
    assert names_of(option) == names


@pytest.mark.parametrize(("url", "known"), [("http://h/v1/chat/completions", False), ("http://h/v1/embeddings", True)])
def test_half_a_price_is_none_unless_the_kind_has_no_output(url: str, known: bool) -> None:
    half = {"name": "half", "id": "m", "input_price": 1.0}
    prices = prices_of(Config.load({"url": url, "models": [half]}))
    assert (prices is not None) == known
