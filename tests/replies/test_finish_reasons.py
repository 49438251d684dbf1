"""A finish reason is judged by its meaning: names that real servers send, in any spelling."""

from __future__ import annotations

from typing import Any, Final

import pytest

from connector.base.records import Status
from connector.endpoints import load
from connector.replies.finish_reasons import Ending, ending_of

ENDINGS: Final = {
    Ending.COMPLETED: """
        stop stop_sequence end_turn tool_calls tool_use function_call eos eos_token COMPLETE FINISH finished completed
        eosFound stopStringFound toolCalls done FINISH_REASON_STOP FINISH_REASON_UNSPECIFIED success whatever OTHER
        <|im_end|> end_of_text stop_token natural_stop normal complete stop_word
    """,
    Ending.CUT: """
        length max_tokens MAX_TOKENS maxTokens max-tokens FINISH_REASON_MAX_TOKENS model_length max_output_tokens
        max_length max_completion_tokens max_new_tokens model_context_window_exceeded context_window_exceeded
        context_length_exceeded context_length contextLengthReached maxPredictedTokensReached LENGTH limit ERROR_LIMIT
        truncated token_limit token_limit_reached incomplete context_overflow
        MAX_TOKENS_REACHED output_length LENGTH_CAPPED response_too_long max_steps max
    """,
    Ending.FILTERED: """
        content_filter content-filter contentFilter CONTENT_FILTERED content_filtered content_filter_error SAFETY
        RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT LANGUAGE MODEL_ARMOR refusal
        sensitive guardrail_intervened guardrails ERROR_TOXIC moderation content_moderation blocked
        data_inspection_failed content_policy_violation FINISH_REASON_SAFETY unsafe
        flagged denied rejected hate hate_speech violence sexual self_harm csam illegal abuse
    """,
    Ending.BROKEN_OFF: """
        error ERROR abort aborted network_error insufficient_system_resource timeout TIMEOUT cancelled canceled
        USER_CANCEL userStopped modelUnloaded failed server_error internal_error engine_error overloaded
        rate_limit_exceeded time_limit malformed_function_call MALFORMED_FUNCTION_CALL malformed_model_output
        malformed_tool_use UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE pause_turn interrupted
        disconnected preempted repetition resource_exhausted
        deadline_exceeded timed_out throttled throttling_error no_capacity out_of_memory oom expired stalled lost
        stream_closed panic max_time
    """,
}
CASES: Final = [(name, ending) for ending, names in ENDINGS.items() for name in names.split()]
STATUSES: Final = {
    Ending.COMPLETED: Status.SUCCESS,
    Ending.CUT: Status.TRUNCATED,
    Ending.FILTERED: Status.FILTERED,
    Ending.BROKEN_OFF: Status.ERROR,
}


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_a_name_means_the_same_in_whatever_case_and_with_whatever_separators(name: str, ending: Ending) -> None:
    for spelling in (name, name.upper(), name.lower(), name.replace("_", "-"), name.replace("_", " "), f" {name}\n"):
        assert ending_of(spelling) is ending
    assert ending_of(name.replace("_", "").title()) is ending


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_every_kind_judges_by_the_meaning(name: str, ending: Ending) -> None:
    choice = {"index": 0, "finish_reason": name}
    chat, completions = load("chat"), load("completions")
    bodies: list[tuple[Any, dict[str, Any]]] = [
        (chat, {"choices": [choice | {"message": {"content": "Hel"}}]}),
        (chat, chat.fold([{"choices": [choice | {"delta": {"content": "Hel"}}]}])),
        (
            chat,
            {
                "choices": [
                    choice | {"finish_reason": "stop", "native_finish_reason": name, "message": {"content": "Hel"}}
                ]
            },
        ),
        (completions, {"choices": [choice | {"text": "Hel"}]}),
        (completions, completions.fold([{"choices": [choice | {"text": "Hel"}]}])),
    ]
    for endpoint, body in bodies:
        answer = endpoint.answer(body)
        assert answer.status is STATUSES[ending]
        assert answer.content == "Hel"
        assert (endpoint.broken_off(body) is None) == (ending is not Ending.BROKEN_OFF)


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_an_incomplete_response_is_cut_unless_its_reason_says_otherwise(name: str, ending: Ending) -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hel"}]}
    body = {"status": "incomplete", "incomplete_details": {"reason": name}, "output": [item]}
    expected = Status.TRUNCATED if ending is Ending.COMPLETED else STATUSES[ending]
    for kind in ("responses", "realtime"):
        assert load(kind).answer(body).status is expected
        assert (load(kind).broken_off(body) is None) == (expected is not Status.ERROR)


@pytest.mark.parametrize("status", ["failed", "cancelled", "canceled", "error", "aborted"])
def test_a_response_that_ended_by_itself_is_broken_off(status: str) -> None:
    for kind in ("responses", "realtime"):
        assert load(kind).broken_off({"status": status, "output": []}) is not None


@pytest.mark.parametrize(("name", "ending"), CASES)
def test_an_image_with_a_reason_of_its_own_is_judged_by_it(name: str, ending: Ending) -> None:
    for kind in ("images", "image_edits"):
        body = {"data": [{"b64_json": "AAAA", "finish_reason": name}]}
        expected = Status.SUCCESS if ending is Ending.CUT else STATUSES[ending]
        assert load(kind).answer(body).status is expected


def test_one_broken_choice_of_several_breaks_the_reply() -> None:
    whole = {"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}
    assert load("chat").broken_off({"choices": [whole, whole | {"index": 1, "finish_reason": "abort"}]}) is not None


def test_an_unknown_reason_is_shown() -> None:
    body = {"choices": [{"index": 0, "finish_reason": "vibes", "message": {"content": "Hello"}}]}
    answer = load("chat").answer(body)
    assert (answer.status, answer.finish_reason) == (Status.SUCCESS, "vibes")


def test_a_name_of_any_length_is_looked_at_in_bounded_time() -> None:
    assert ending_of("x" * 10_000_000) is Ending.COMPLETED
    assert ending_of("length" + "x" * 10_000_000) is Ending.CUT
