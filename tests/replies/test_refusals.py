"""What a failed reply means: the message in a body of any shape, and the error that status and body stand for."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.base.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectorError,
    FatalError,
    NotFoundError,
    PermissionDeniedError,
    QuotaError,
    RateLimitError,
    RetryableError,
    ServerError,
)
from connector.base.masking import Masker
from connector.base.records import Reply
from connector.replies.inline_errors import error_in
from connector.replies.refusals import error_of, final_reply, is_filtered, parameter_words, read_error, refusal

KEY: Final = "sk-very-secret-key-0123456789"


def openai(message: str = "No.", kind: Any = "invalid_request_error", code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def error(status: int, body: Any = b"", headers: dict[str, str] | None = None) -> ConnectorError:
    return error_of(status, headers or {}, body, now=0.0, mask=Masker([KEY]))


# --- Bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (openai("Unknown model"), "Unknown model"),
        ({"error": "Unauthorized"}, "Unauthorized"),
        ({"detail": "Not Found"}, "Not Found"),
        (
            {"detail": [{"type": "missing", "loc": ["body", "messages", 0], "msg": "Field required", "input": {}}]},
            "body.messages.0: Field required",
        ),
        ({"detail": [{"loc": ["a"], "msg": "x"}, {"loc": ["b"], "msg": "y"}]}, "a: x; b: y"),
        ({"detail": {"message": "inner"}}, "inner"),
        ({"status": "failure", "message": "Bad request"}, "Bad request"),
        ({"type": "about:blank", "title": "Bad request", "status": 400, "detail": "No."}, "No."),
        ({"title": "Bad request", "status": 400}, "Bad request"),
        ({"error": {"error": "nested", "message": "outer"}}, "outer"),
        ({"error": {"code": 7}}, '{"code":7}'),
        ({"error": {}, "message": "beside"}, "beside"),
        ({"error": {"message": {"detail": "deep"}}}, "deep"),
        ({"error": ["a", {"message": "b"}]}, "a; b"),
        ({"error_message": "x"}, "x"),
        ({"html-message": "fetch failed"}, "fetch failed"),
        (
            {
                "title": "Invalid request",
                "detail": "No.",
                "validation": [{"location": ["body"], "message": "not text"}],
            },
            "No: not text",
        ),
        ({"detail": "No.", "errors": [{"detail": "too small", "pointer": "#/age"}, "b"]}, "No: too small; b"),
        ({"errors": [{"code": 7009, "message": "No such model"}], "success": False}, "No such model"),
        ({"message": "No.", "errors": []}, "No."),
        ({"error": {"code": 400, "message": "No.", "errors": [{"message": "No.", "reason": "invalid"}]}}, "No."),
        ([{"error": {"message": "in a list"}}], "in a list"),
        ({"unknown": 1}, ""),
        ({}, ""),
        ([], ""),
        ("plain text", "plain text"),
        (None, "None"),
    ],
)
def test_the_message_is_found_in_a_body_of_any_shape(body: Any, message: str) -> None:
    assert read_error(body).message == message
    if not isinstance(body, str | None):
        assert read_error(json.dumps(body).encode()).message == message
        assert read_error(b"\xef\xbb\xbf\r\n " + json.dumps(body, indent=2).encode()).message == message
        assert read_error(b"data: " + json.dumps(body).encode() + b"\n\n").message == message
        assert read_error(json.dumps(body).encode("utf-16-le")).message == message


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", ""),
        (b"no healthy upstream\n", "no healthy upstream"),
        (b"<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>", "502 Bad Gateway 502"),
        (b"<style>b{c}</style><script>if (a < b) {}</script><p>Sorry", "Sorry"),
        (b"<p>Sorry</p><script>never closed", "Sorry"),
        (b"a < b", "a < b"),
        (b'{"error": {"message": "cut', '{"error": {"message": "cut'),
        (b"caf\xe9", "café"),
        (b"caf\xc3\xa9 \xe9", "café \ufffd"),
        (b'data: {"error": {"message": "No."}}\n\ndata: [DONE]\n\n', "No."),
        (b'event: error\ndata: {"error": {"message": "No."}}\n\n', "No."),
        (b"data:", "data:"),
        (b"event: none", "event: none"),
        (b"[" * 100_000, "[" * 65536),
    ],
)
def test_a_body_that_is_not_json_is_its_own_message_on_one_line(raw: bytes, message: str) -> None:
    assert read_error(raw).message == message


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        ("x", "y", ("x", "y")),
        (400, None, ("400", "")),
        (None, 7, ("", "")),
        ({"a": 1}, ["b"], ("", "")),
    ],
)
def test_code_and_type_are_texts(code: Any, kind: Any, expected: tuple[str, str]) -> None:
    assert read_error(openai("m", kind, code))[1:] == expected


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["insufficient_quota", "²", "429", "\ud83d"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("error message detail code type loc msg title".split()), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.integers(200, 599), values, st.dictionaries(st.sampled_from(["location", "x-should-retry"]), st.text(max_size=5))
)
def test_no_body_is_too_odd(status: int, body: Any, headers: dict[str, str]) -> None:
    found = error_of(status, headers, body, now=0.0)
    assert isinstance(found, ConnectorError)
    assert found.message


@given(st.binary())
def test_nor_are_any_bytes(body: bytes) -> None:
    assert isinstance(
        error_of(400, {}, body, now=0.0),
        BadRequestError | AuthenticationError | NotFoundError | QuotaError | RateLimitError,
    )


@pytest.mark.parametrize(
    "shape", ['{"error": %s}', '{"message": %s}', "[%s]", '{"detail": [%s]}', '{"loc": [%s], "msg": 1}']
)
def test_a_body_nested_deeply_is_no_trouble(shape: str) -> None:
    raw = '"x"'
    for _ in range(400):
        raw = shape % raw
    assert error(400, raw.encode()).http_status == 400
    assert error(400, json.loads(raw)).http_status == 400


@pytest.mark.parametrize("part", [b"<", b"<script", b"<a", b"< >", b"<style>", b"\n", b"&"])
def test_a_page_of_megabytes_is_read_in_no_time(part: bytes) -> None:
    assert len(error(500, part * (4_000_000 // len(part))).message) < 600


# --- Errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, openai(), BadRequestError),
        (400, openai("Incorrect API key", code="invalid_api_key"), AuthenticationError),
        (400, openai("Incorrect API key", kind="authentication_error"), AuthenticationError),
        (400, openai("No such model", code="model_not_found"), NotFoundError),
        (400, openai("/responses: Invalid model name passed in model=x. Call it.", code="400"), NotFoundError),
        (400, openai("No connected db.", "no_db_connection", "400"), AuthenticationError),
        (400, openai("Key expired", "expired_key", "400"), AuthenticationError),
        (400, openai("Budget has been exceeded!", "budget_exceeded", "400"), QuotaError),
        (429, openai("Budget has been exceeded!", "budget_exceeded", "429"), QuotaError),
        (400, {"status": "failure", "message": "Either x-portkey-config or …-provider is required"}, FatalError),
        (400, {"status": "failure", "message": "Invalid provider passed"}, FatalError),
        (400, openai("Invalid providers: take another"), BadRequestError),
        (500, {"status": "failure", "message": "Invalid config passed"}, ServerError),
        (401, b"", AuthenticationError),
        (401, {"error": "Unauthorized"}, AuthenticationError),
        (402, b"", QuotaError),
        (403, b"<html>Forbidden</html>", PermissionDeniedError),
        (404, openai("No such model", code="model_not_found"), NotFoundError),
        (404, {"detail": "Not Found"}, NotFoundError),
        (405, b"", NotFoundError),
        (408, b"", ServerError),
        (409, b"", ServerError),
        (412, b"", BadRequestError),
        (413, b"", BadRequestError),
        (422, {"detail": []}, BadRequestError),
        (425, b"", ServerError),
        (429, openai("Slow down", "requests", "rate_limit_exceeded"), RateLimitError),
        (429, b"", RateLimitError),
        (429, openai("No credit", "insufficient_quota", "insufficient_quota"), QuotaError),
        (429, openai("No credit", "insufficient_quota"), QuotaError),
        (429, openai("Too large", "tokens", "Rate_Limit_Exceeded"), RateLimitError),
        (446, b"", BadRequestError),
        (500, b"", ServerError),
        (500, openai("Incorrect API key", code="invalid_api_key"), ServerError),
        (502, b"<html>Bad gateway</html>", ServerError),
        (503, b"", ServerError),
        (504, b"", ServerError),
        (529, openai("Overloaded", "overloaded_error"), ServerError),
        (200, openai("Overloaded", "server_error", "overloaded"), ServerError),
        (200, openai("Bad request", code=400), BadRequestError),
        (200, openai("Bad request", code="422"), BadRequestError),
        (200, openai("Slow down", code=429), RateLimitError),
        (200, openai("Slow down", code="rate_limit_exceeded"), RateLimitError),
        (200, openai("Wrong key", code=401), AuthenticationError),
        (200, openai("Wrong key", code="invalid_api_key"), AuthenticationError),
        (200, openai("No credit", code="insufficient_quota"), QuotaError),
        (200, openai("x", "y", code=7), ServerError),
        (200, openai("x", "y", code="²²²"), ServerError),
        (200, openai("x", "y", code="9" * 5000), ServerError),
        (200, openai("Bad request"), BadRequestError),
        (200, openai("Bad request", "y", "invalid_value"), BadRequestError),
        (200, openai("Too long", "y", "context_length_exceeded"), BadRequestError),
        (200, openai("Filtered", "y", "content_filter"), BadRequestError),
        (200, {"error": "something"}, ServerError),
        (301, b"", BadRequestError),
    ],
)
def test_status_and_body_make_the_error(status: int, body: Any, expected: type[ConnectorError]) -> None:
    found = error(status, body)
    assert type(found) is expected
    message = read_error(body).message
    assert message[:20] in found.message


@pytest.mark.parametrize(
    ("status", "code", "expected"), [(400, None, 400), (200, 429, 429), (200, None, 400), (503, "400", 503)]
)
def test_the_status_in_the_error_is_the_one_that_counts(status: int, code: Any, expected: int) -> None:
    found = error(status, openai(code=code))
    assert found.http_status == expected
    assert f"HTTP {expected}" in found.message


def test_the_endpoint_may_say_itself_whether_to_retry() -> None:
    assert isinstance(error(400, openai(), {"x-should-retry": "true"}), ServerError)
    assert isinstance(error(503, b"", {"x-should-retry": "False"}), BadRequestError)
    assert isinstance(error(429, b"", {"x-should-retry": "false"}), BadRequestError)
    assert isinstance(error(401, b"", {"x-should-retry": "true"}), AuthenticationError)


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_is_asked_for_is_carried(status: int) -> None:
    found = error(status, b"", {"retry-after": "7"})
    assert isinstance(found, RetryableError)
    assert found.wait == 7


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "OPENAI_API_KEY"), (402, "add credit"), (403, "another key"), (404, "check url"), (301, "change url")],
)
def test_a_message_says_what_to_do(status: int, hint: str) -> None:
    assert hint in error(status).message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (openai("The model `x` does not exist.", "NotFoundError", "404"), "does not have this model"),
        ({"error": "model 'x' not found"}, "does not have this model"),
        ({"detail": "The model x doesn't exist"}, "does not have this model"),
        ({"message": "Route POST:/v1/models/chat not found"}, "does not have what is asked for"),
        ({"detail": "Method Not Allowed"}, "nothing answers at this URL"),
        (b"Not Found", "nothing answers at this URL"),
        (b"", "nothing answers at this URL"),
    ],
)
def test_a_404_that_speaks_of_the_model_is_not_reported_as_a_wrong_url(body: object, told: str) -> None:
    found = error(404, body)
    assert type(found) is NotFoundError
    assert told in found.message


def test_a_key_of_the_gateways_own_is_not_taken_for_ours() -> None:
    words = "litellm.AuthenticationError: OpenAIException - Incorrect API key. LiteLLM: model group 'm' failed."
    found = error(401, openai(words, None, "401"))
    assert type(found) is AuthenticationError
    assert "the gateway's own key" in found.message
    assert "set api_key" not in found.message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("litellm.ContentPolicyViolationError: OpenAIException - Rejected.", True),
        ("litellm.BadRequestError: No.", False),
    ],
)
def test_a_filter_behind_a_gateway_is_known_by_its_name(message: str, expected: bool) -> None:
    assert is_filtered(Reply(400, openai(message, code="400"), {})) is expected


def test_a_redirect_tells_where_to_and_that_no_key_went_there() -> None:
    found = error(308, b"", {"location": f"https://elsewhere.example/v1?key={KEY}"})
    assert (
        found.message
        == "the endpoint redirects to https://elsewhere.example/v1?key=***, where no key is sent: change url"
    )
    assert "nowhere" in error(308).message


# --- What a refusal is about: its words and its status together ---

GOOGLE_KEY: Final = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "API_KEY_INVALID",
                "domain": "googleapis.com",
            },
            {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": "No."},
        ],
    }
}
FIELD: Final = {"type": "literal_error", "loc": ["body", "response_format", "type"], "msg": "Input should be 'text'"}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(
            500, openai("response_format json_schema is not supported"), BadRequestError, id="llama-cpp-python"
        ),
        pytest.param(500, openai(str([FIELD]), "internal_server_error"), BadRequestError, id="a pydantic error as 500"),
        pytest.param(500, {"detail": [FIELD]}, BadRequestError, id="FastAPI's list as 500"),
        pytest.param(500, openai("Failed to parse grammar"), BadRequestError, id="a grammar"),
        pytest.param(
            500, openai("create() got an unexpected keyword argument 'tools'"), BadRequestError, id="TypeError"
        ),
        pytest.param(500, openai("Internal error: out of memory"), ServerError, id="the server's own failure"),
        pytest.param(500, b"Internal Server Error", ServerError, id="no words at all"),
        pytest.param(
            500,
            {
                "detail": "x/y is not a local folder and is not a valid model identifier listed on 'https://hf.co/models'"
            },
            NotFoundError,
            id="transformers: a wrong model",
        ),
        pytest.param(500, openai("litellm.RateLimitError: slow down"), RateLimitError, id="a rate limit as 500"),
        pytest.param(
            501, openai("This server does not support embeddings"), NotFoundError, id="llama.cpp: no embeddings"
        ),
        pytest.param(501, b"Not Implemented", NotFoundError, id="501 and nothing else"),
        pytest.param(501, openai("json_schema is not implemented"), BadRequestError, id="501 for a parameter"),
        pytest.param(498, openai("capacity exceeded", "x", "capacity_exceeded"), RateLimitError, id="Groq's flex"),
        pytest.param(498, b"", ServerError, id="498 and nothing else"),
        pytest.param(499, openai("Client Closed Request"), ServerError, id="nginx gave the call up"),
        pytest.param(400, openai("please retry later", "overloaded_error"), ServerError, id="overload as 400"),
        *(
            pytest.param(400, body, AuthenticationError, id=f"Google: a wrong key in a {type(body).__name__}")
            for body in (GOOGLE_KEY, [GOOGLE_KEY])
        ),
        pytest.param(403, openai("Rate Limit Exceeded", "x", "rateLimitExceeded"), RateLimitError, id="Google's 403"),
        pytest.param(403, openai("Insufficient balance"), QuotaError, id="an empty account as 403"),
        pytest.param(403, openai("Wrong key", code="invalid_api_key"), AuthenticationError, id="a wrong key as 403"),
        pytest.param(403, b"<title>Attention Required! | Cloudflare</title>", PermissionDeniedError, id="a firewall"),
        pytest.param(
            404, openai("No endpoints found that support image input"), BadRequestError, id="OpenRouter: images"
        ),
        pytest.param(
            404,
            openai("No endpoints found that can handle the requested parameters."),
            BadRequestError,
            id="OpenRouter: a parameter",
        ),
        pytest.param(404, openai("No endpoints found that support tool use"), BadRequestError, id="OpenRouter: tools"),
        pytest.param(404, {"error": "Only 'text' content type is supported."}, BadRequestError, id="a text-only model"),
        pytest.param(404, openai("The image model x does not exist"), NotFoundError, id="a model with a word of media"),
        pytest.param(400, openai("Rate exceeded", "ThrottlingException"), RateLimitError, id="Bedrock's throttling"),
        pytest.param(400, openai("x", "y", "Throttling.RateQuota"), RateLimitError, id="DashScope's throttling"),
        pytest.param(400, openai("say: insufficient balance"), BadRequestError, id="a 400 that quotes the row"),
        pytest.param(400, openai("say: invalid api key"), BadRequestError, id="a 400 that quotes a key error"),
        pytest.param(
            400, openai("Does not match", "x", "json_validate_failed"), BadRequestError, id="Groq: one sample"
        ),
    ],
)
def test_words_and_status_together_say_what_a_refusal_is_about(
    status: int, body: Any, expected: type[ConnectorError]
) -> None:
    found = error(status, body)
    assert type(found) is expected
    assert found.http_status == status


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, openai("Input data may contain …", "x", "data_inspection_failed"), id="DashScope"),
        pytest.param(
            400, openai("Output data may contain inappropriate content.", "DataInspectionFailed"), id="DashScope 2"
        ),
        pytest.param(400, openai("The input may contain unsafe or sensitive content.", None, "1301"), id="Zhipu"),
        pytest.param(400, openai("Content Exists Risk", code="invalid_request_error"), id="DeepSeek"),
        pytest.param(
            400, openai("triggering Azure OpenAI's content management policy", "x", "content_filter"), id="Azure"
        ),
        pytest.param(400, openai("x", "y", "ResponsibleAIPolicyViolation"), id="Azure's inner code"),
        pytest.param(400, openai("Input blocked by guardrail."), id="Bedrock"),
        pytest.param(400, openai("Output blocked by content filtering policy"), id="Anthropic"),
        pytest.param(400, openai("sensitive words that violate Google's Responsible AI practices"), id="Vertex"),
        pytest.param(400, openai("rejected because it was considered high risk", "content_filter"), id="Moonshot"),
        pytest.param(400, openai("x", "y", "InputTextSensitiveContentDetected"), id="Volcengine"),
        pytest.param(400, openai("Your request was rejected as a result of our safety system."), id="OpenAI's images"),
        pytest.param(400, openai("your prompt was flagged as potentially violating our usage policy"), id="OpenAI"),
        pytest.param(
            403, openai("Your chosen model requires moderation and your input was flagged", code=403), id="OpenRouter"
        ),
        pytest.param(403, openai("Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE"), id="xAI"),
        pytest.param(451, openai("The content you provided is blocked."), id="StepFun"),
        pytest.param(500, openai("litellm.ContentPolicyViolationError: No."), id="LiteLLM as 500"),
        pytest.param(200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}, id="MiniMax"),
    ],
)
def test_a_content_filter_is_known_whoever_it_belongs_to(status: int, body: Any) -> None:
    body = error_in(body) if status == 200 else body
    found = error(status, body)
    assert type(found) is BadRequestError
    assert is_filtered(final_reply(found, body, {}, 0, Masker()))


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported parameter: 'moderation'",
        "the prompt is too long",
        "Invalid 'messages[0].content'",
        "tools[0].function.description: unsafe characters",
    ],
)
def test_a_refusal_of_something_else_is_not_filtered(message: str) -> None:
    assert not is_filtered(Reply(400, openai(message), {}))


@pytest.mark.parametrize(
    ("body", "expected", "told"),
    [
        (
            {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
            RateLimitError,
            "rate limit",
        ),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, AuthenticationError, "login fail"),
        ({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, QuotaError, "balance"),
        ({"base_resp": {"status_code": 1013, "status_msg": "unknown"}}, ServerError, "unknown"),
        ({"base_resp": {"status_code": 2013, "status_msg": "invalid params"}}, BadRequestError, "invalid params"),
        ({"code": 50505, "message": "Model service overloaded.", "data": None}, ServerError, "overloaded"),
        ({"code": 20012, "message": "Model does not exist."}, NotFoundError, "does not exist"),
        ({"error_code": 18, "error_msg": "Open api qps request limit reached"}, RateLimitError, "qps"),
        ({"error_code": 110, "error_msg": "Access token invalid"}, AuthenticationError, "token"),
        ({"error_code": 336003, "error_msg": "invalid param: messages"}, BadRequestError, "messages"),
        ({"status": "449", "msg": "You exceeded your current rate limit", "body": None}, RateLimitError, "rate limit"),
        ({"header": {"code": 11202, "message": "qps exceeded"}}, RateLimitError, "qps"),
        ({"Response": {"Error": {"Code": "LimitExceeded", "Message": "Try later"}}}, RateLimitError, "Try later"),
        ({"ResponseMetadata": {"Error": {"Code": "InternalError", "Message": "Oops"}}}, ServerError, "Oops"),
        ({"object": "error", "message": "context length exceeded", "code": 40303}, BadRequestError, "context"),
        ({"detail": "Too Many Requests"}, RateLimitError, "Too Many"),
        ({"success": False, "errors": [{"code": 7, "message": "Overloaded"}]}, ServerError, "Overloaded"),
        ({"message": "Internal failure"}, ServerError, "Internal failure"),
        ({"type": "error", "message": "Overloaded"}, ServerError, "Overloaded"),
    ],
)
def test_a_200_with_a_vendor_s_own_error_is_that_error(
    body: dict[str, Any], expected: type[ConnectorError], told: str
) -> None:
    found = error(200, error_in(body))
    assert type(found) is expected
    assert told in found.message


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop", "error": None}], "error": {}},
        {"choices": [{"message": {"content": "Hi"}}], "error": {"code": None, "message": ""}},
        {"choices": [{"message": {"content": "Hi"}}], "base_resp": {"status_code": 0, "status_msg": "success"}},
        {"choices": [], "object": "chat.completion", "model": "m"},
        {"choices": None},
        {"data": [], "object": "list"},
        {"code": 0, "message": "success", "data": [{"embedding": [1]}]},
        {"object": "response", "status": "completed", "output": []},
        {"type": "response.output_text.delta", "delta": "x"},
        {"type": "response.created", "response": {"error": None}},
        {"status": "success"},
        {},
    ],
)
def test_a_reply_is_not_taken_for_an_error(body: dict[str, Any]) -> None:
    assert error_in(body) == {}


@given(
    st.dictionaries(st.sampled_from("error choices base_resp header code status message Response type".split()), values)
)
def test_whatever_a_200_holds_it_is_a_reply_or_an_error_with_a_body(body: dict[str, Any]) -> None:
    found = error_in(body)
    assert not found or isinstance(error(200, found), ConnectorError)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(400, openai("response_format is not supported"), {}), True),
        (Reply(500, openai("response_format is not supported"), {}), True),
        (Reply(400, openai("The schema: content policy", code="content_filter"), {}), False),
        (Reply(400, openai("does not match the expected schema", code="json_validate_failed"), {}), False),
        (Reply(400, openai("context exceeded by max_tokens", code="context_length_exceeded"), {}), False),
        (ServerError("the endpoint failed (HTTP 500: json_schema)", http_status=500), False),
        (RateLimitError("json_schema"), False),
    ],
)
def test_only_a_refusal_about_a_parameter_may_change_how_other_rows_are_asked(
    reply: Reply | ConnectorError, expected: bool
) -> None:
    assert bool(parameter_words(reply)) is expected


# --- Secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("before", [0, 10, 470, 480, 490, 495, 499, 600])
def test_a_key_is_never_left_in_a_message_not_even_half(status: int, before: int) -> None:
    text = "." * before + f"{KEY} is wrong"
    bodies: list[Any] = [
        openai(text),
        {"error": text},
        {"detail": text},
        text.encode(),
        f"<p>{text}</p>".encode(),
        {"error": {text: 1}},
    ]
    for body in bodies:
        found = error(status, body)
        assert KEY[:6] not in found.message + found.detail
        assert KEY[-6:] not in found.message + found.detail
        assert len(found.message) < 700


@pytest.mark.parametrize("blank", [" ", "\n", "<b>"])
@pytest.mark.parametrize("least", [2**16, 2**20])
def test_of_a_long_body_no_half_of_a_key_is_left_where_it_is_cut(blank: str, least: int) -> None:
    """Blanks and tags are left out of a message, so that its end moves to where it is read."""
    secret = "0123456789abcdef" * 2
    mask = Masker([secret])
    for at in range(least - len(secret), least + 1, 5):
        text = (blank * (at // len(blank) + 1))[:at] + f"{secret} is wrong"
        bodies: list[Any] = [
            openai(text),
            {"error": text},
            [{"msg": text}],
            {"error": {"x": text}},
            text,
            text.encode(),
        ]
        for body in bodies:
            found = error_of(400, {}, body, now=0.0, mask=mask)
            assert "0123" not in str(final_reply(found, body, {}, 0, mask)) + found.message + found.detail


def test_a_key_of_no_known_look_is_masked_as_well() -> None:
    secret = "0123456789abcdef" * 2
    for before in range(470, 500):
        message = error_of(400, {}, {"error": "." * before + secret}, now=0.0, mask=Masker([secret])).message
        assert "0123" not in message


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((301, b""), (301, {}), (302, {"error": "Moved."}), (400, b""), (400, {}), (422, {}), (413, {"error": "No."})),
        *((400, b"the endpoint"), (400, b"the endpoint redirects to nowhere"), (400, {"error": {"message": None}})),
        (422, b"the endpoint refuses this request (HTTP 400: of a server behind a server)"),
    ],
)
def test_a_stored_refusal_gives_the_message_of_the_first_time(status: int, body: Any) -> None:
    first = error_of(status, {"location": "https://elsewhere.example/v1"}, body, now=0)
    assert refusal(final_reply(first, body, {}, 0, Masker())).message == first.message


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        *(({}, ""), ({"error": None}, ""), ({"error": "no"}, ""), ({"error": {}}, "")),
        *(({"error": {"message": each}}, "") for each in (None, "")),
        ({"error": {"message": [1], "code": None}}, ": [1]"),
    ],
)
def test_a_stored_refusal_of_any_shape_is_the_error_of_its_row(body: dict[str, Any], quoted: str) -> None:
    """A ledger that others have changed may hold it."""
    reply = Reply(400, body, {})
    assert refusal(reply).message == f"the endpoint refuses this request (HTTP 400{quoted})"
    assert not is_filtered(reply)
    assert parameter_words(reply) == quoted[2:]
