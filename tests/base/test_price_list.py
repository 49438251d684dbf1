"""The prices of a library stand in where nobody tells any: as it would calculate them, and unknown where it is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from connector import Config, Connector
from connector.base.cost import Prices, cost_of
from connector.base.price_list import MAY_BE_KNOWN, PriceList
from connector.base.records import Record, Reply, Usage
from connector.endpoints import usage_of
from connector.run.plan import Plan
from tests.patience import PATIENCE

OPENAI = "https://api.openai.com/v1/chat/completions"
MODEL = "gpt-6-luna"


def listed(tokens: dict[str, int], tier: str | None = None) -> float:
    """What the library itself says that so many tokens of the model cost."""
    context = None if tier is None else {"service_tier": tier}
    usage = genai_prices.Usage(**tokens)
    return float(genai_prices.calc_price(usage, MODEL, provider_api_url=OPENAI, price_context=context).total_price)


def models() -> list[tuple[str, str]]:
    """Providers at an API of OpenAI's shape, and their models: an address, and a name."""
    urls = {"openai": OPENAI, "groq": "https://api.groq.com/openai/v1", "x-ai": "https://api.x.ai/v1"}
    urls |= {"google": "https://generativelanguage.googleapis.com/v1", "anthropic": "https://api.anthropic.com/v1"}
    providers = [provider for provider in get_snapshot().providers if provider.id in urls]
    return [(urls[provider.id], model.id) for provider in providers for model in provider.models]


@given(
    st.sampled_from(models()),
    st.sampled_from([None, "default", "flex", "priority", "unheard-of"]),
    st.tuples(*[st.integers(0, 400_000)] * 2),
    st.integers(0, 50_000),
)
def test_a_reply_costs_what_the_library_calculates(
    at: tuple[str, str], tier: str | None, counts: tuple[int, int], made: int
) -> None:
    url, model = at
    fresh, cached = counts
    written = fresh // 3
    usage = Usage(fresh + cached, made, cached, None, written)
    told = PriceList(url).cost(usage, model, tier)
    tokens = genai_prices.Usage(
        input_tokens=fresh + cached, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=made
    )
    context = None if tier is None else {"service_tier": tier}
    try:
        priced = genai_prices.calc_price(tokens, model, provider_api_url=url, price_context=context)
    except LookupError:  # a name that it lists, and that no reply may have
        assert told is None
        return
    if priced.model_price.input_mtok is None or (priced.model_price.output_mtok is None and made):
        assert told is None
    else:
        assert told == pytest.approx(float(priced.total_price))


def test_a_reply_is_priced_by_the_model_and_the_tier_that_it_names() -> None:
    details = {"cached_tokens": 250_000, "cache_write_tokens": 250_000}
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_tokens_details": details}
    body = {"model": f"{MODEL}-2026-10-12", "usage": usage, "service_tier": "flex"}
    told = cost_of(Reply(200, body, {}), usage_of(body), PriceList(OPENAI, "another"))
    tokens = {"input_tokens": 1_000_000, "cache_read_tokens": 250_000, "cache_write_tokens": 250_000}
    assert told == pytest.approx(listed(tokens, "flex")) != pytest.approx(listed(tokens))


def test_a_reply_of_a_model_that_is_not_listed_is_priced_by_the_model_that_was_asked_for() -> None:
    assert PriceList(OPENAI, MODEL).cost(Usage(1_000, 0), "my-deployment") == pytest.approx(
        listed({"input_tokens": 1_000})
    )
    assert PriceList(OPENAI).cost(Usage(1_000, 0), "my-deployment") is None


@pytest.mark.parametrize("host", ["api.openai.com", "api.openai.com:443", "API.OPENAI.COM", "api.openai.com."])
def test_an_endpoint_is_recognized_however_its_host_is_written(host: str) -> None:
    assert MAY_BE_KNOWN.match(f"https://{host}/v1")
    assert MAY_BE_KNOWN.match(f"https://{host}")


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "https://llm.example.com/v1/chat/completions", "http://api.openai.com/v1"]
)
def test_the_same_model_elsewhere_has_no_price(url: str) -> None:
    assert PriceList(url, MODEL).cost(Usage(1_000, 10), MODEL) is None
    assert not PriceList(url).knows(MODEL)


def test_what_the_config_or_the_gateway_says_counts_first() -> None:
    config = Config(url=OPENAI, prompt="{{ a }}", model=MODEL, prices=Prices(input=7))
    assert Plan(config).pricing == config.prices
    reported = Reply(200, {"model": MODEL, "usage": {"prompt_tokens": 10, "cost": 0.5}}, {})
    assert cost_of(reported, Usage(10), PriceList(OPENAI, MODEL)) == 0.5


def test_costs_that_it_gave_are_said_to_be_estimates_with_their_date() -> None:
    pricing = PriceList(OPENAI, MODEL)
    assert pricing.source == ""
    pricing.cost(Usage(1_000, 10), MODEL)
    assert pricing.source.startswith(f"estimated by genai-prices {genai_prices.__version__}, prices up to 20")


def outcome(**options: Any) -> Any:
    plan = Plan(Config(url=OPENAI, prompt="{{ a }}", model=MODEL, **options))
    choice = {"message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1_000, "completion_tokens": 0}
    return plan.outcomes.of(Record(0, {"a": 1}), Reply(200, {"choices": [choice], "model": MODEL, "usage": usage}, {}))


def test_a_row_says_what_it_cost() -> None:
    assert outcome().provenance.cost_usd == pytest.approx(listed({"input_tokens": 1_000}))


def python(program: str) -> None:
    plan = f"from connector.run.plan import Plan\nplan = Plan(Config(url={OPENAI!r}, model={MODEL!r}, prompt='x'))\n"
    setting = "import sys\nfrom connector import Config\nfrom connector.base.records import Usage\n"
    subprocess.run([sys.executable, "-c", setting + plan + program], check=True, timeout=PATIENCE)


def test_without_the_library_a_cost_is_unknown_and_never_zero() -> None:
    python("sys.modules['genai_prices'] = None\nassert plan.pricing.cost(Usage(1_000, 10), 'gpt-6-luna') is None")
    python("sys.modules['genai_prices'] = None\nassert not plan.pricing.knows('gpt-6-luna')")


def test_it_is_imported_only_where_a_cost_has_to_be_found() -> None:
    python(
        "from connector.base.price_list import PriceList\n"
        "for host in ('localhost', '127.0.0.1:8443', '[::1]', '[2001:db8::1]:443', 'box'):\n"
        "    assert not PriceList(f'https://{host}/v1').knows('gpt-6-luna')\n"
        "assert 'genai_prices' not in sys.modules\n"
        "assert plan.pricing.knows('gpt-6-luna') and 'genai_prices' in sys.modules"
    )


def test_a_dry_run_says_what_the_requests_cost_and_by_whose_prices(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"a": f"{number}" * 5_000}) + "\n" for number in range(200)))
    command = [sys.executable, "-m", "connector", "enrich", str(source), "-o", str(tmp_path / "out.jsonl"), "--dry-run"]
    command += ["--url", OPENAI, "--model", MODEL, "--prompt", "{{ a }}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    found = re.search(r"200 calls, about ([\d,]+) input tokens \(\$([\d.]+)\), estimated by genai-prices", done.stdout)
    assert found is not None, done.stdout
    each = int(found[1].replace(",", "")) // 200
    assert float(found[2]) == pytest.approx(200 * listed({"input_tokens": each}), abs=0.01)


def test_a_budget_without_a_price_is_reported_before_the_first_call(caplog: pytest.LogCaptureFixture) -> None:
    def told(**options: Any) -> str:
        caplog.clear()
        given = {"prompt": "{{ a }}", "cache": "none", "api_key": "k", "max_cost_usd": 1, "max_retries": 0, **options}
        list(Connector(given).enrich([]))
        return caplog.text

    assert "no price of the model is known" in told(url="http://localhost:1/v1", model=MODEL)
    assert "no price of the model is known" in told(url=OPENAI, model="no-such-model")
    assert told(url=OPENAI, model=MODEL) == ""
