"""What a failed reply means: turns an HTTP status and a body of any shape into one error.

Statuses alone mislead: an account without credit may come as 429, a wrong key as 400, a client's mistake as 500, a rate
limit inside a 200. So the code and the message in the body count first, where they are unambiguous; `About` lists the
meanings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

from connector.base.charsets import decoded_text
from connector.base.decoding import loads
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
from connector.base.regex import regex
from connector.base.values import dumps
from connector.http.retry_after import asked_wait
from connector.http.sse import events
from connector.replies.inline_errors import CODES, MESSAGES

_LONGEST: Final = 500
_READ: Final = 2**16
_MOST_READ: Final = 2**20  # of a raw body
_UNKNOWING: Final = Masker()
_JUDGED: Final = 1000  # characters of a message that are searched for words; the patterns are fast on so few
_DEEPEST: Final = 5
_HTML: Final = regex(r"<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_STATUS: Final = regex(r"[45][0-9]{2}")
_REASONS: Final = ("errors", "validation", "invalid_params")  # RFC 9457, section 3, and what servers have added

# --- Codes and types, in lower case without separators ---
_ACCOUNT: Final = frozenset(
    {"insufficientquota", "billinghardlimitreached", "insufficientcredits", "creditlimit", "budgetexceeded"}
    | {"arrearage", "insufficientbalance", "paymentrequired", "1113", "1008"}  # DashScope, Zhipu, MiniMax
)
_KEY: Final = frozenset(
    {"invalidapikey", "invalidauthentication", "accountdeactivated", "authenticationerror"}
    | {"nodbconnection", "tokennotfoundindb", "expiredkey"}  # LiteLLM; the first if it has no keys but its own
    | {"apikeyinvalid"}  # Google
)
_MODEL: Final = frozenset({"modelnotfound", "modelnotavailable", "invalidmodel"})
_LIMITED: Final = frozenset(
    {"ratelimitexceeded", "ratelimiterror", "toomanyrequests", "requestlimitexceeded", "limitexceeded"}
    | {"resourceexhausted", "userratelimitexceeded", "capacityexceeded"}  # Google; Groq
)
_OVERLOADED: Final = frozenset({"overloaded", "overloadederror", "engineoverloaded", "engineoverloadederror"})
_THROTTLED: Final = "throttling"  # a prefix of AWS's and DashScope's codes
_SAMPLE: Final = frozenset({"jsonvalidatefailed", "toolusefailed", "outputparsefailed"})  # Groq
_TOO_LONG: Final = frozenset({"contextlengthexceeded", "stringabovemaxlength"})
_REFUSED: Final = _TOO_LONG | {"invalidrequesterror"}
_FINAL: Final = (
    "invalid",
    "image",
)  # prefixes of the codes of a failed response: `invalid_prompt`, `image_too_large`
_FILTER_CODE: Final = regex(
    "contentfilter|contentpolicy|contentmoderation|moderationblocked|datainspection|responsibleai|sensitivecontent"
    "|riskdetection|guardrail|prohibitedcontent|unsafecontent|safetyviolation|contentblocked"
)

# --- Words. The message of a 400 may quote the row, so its words alone never end a run. ---
_FILTER: Final = regex(
    r"content.?(?:filter|policy|management policy|moderation|safety)|contentpolicyviolation|content exists risk"
    r"|inappropriate content|(?:unsafe|sensitive|prohibited|harmful) (?:or (?:unsafe|sensitive) )?(?:content|words)"
    r"|(?:input|prompt|output|content|request|text|message) (?:was|is|has been|were|are) flagged|requires moderation"
    r"|(?:blocked|rejected|denied|flagged|intervened|stopped)(?: \w+){0,3} (?:guardrail|moderation|safety)"
    r"|guardrail (?:intervened|blocked|denied|violat)|our safety system|safety (?:filter|check|polic)"
    r"|responsible ai|considered high risk|usage (?:polic|guideline)|new_sensitive|\u654f\u611f|\u8fdd\u89c4",
)
_SAMPLE_WORDS: Final = regex(r"generated json does not match|failed to (?:generate (?:valid )?json|call a function)")
_PARAMETER: Final = regex(
    r"response_?format|json_?(?:schema|object)|schema|grammar|guided|structured|stream|max_(?:completion_)?tokens|tool"
    r"|temperature|top_[pk]|logprobs|dimensions|encoding_format|parameter|argument|extra_body|stop\b|seed|\bn\b|modalit"
)
_REFUSES: Final = regex(
    r"un-?supported|not (?:yet )?(?:supported|implemented|permitted|allowed|available)|(?:not|n.t) support"
    r"|un(?:recognized|known)|unexpected"
    r"|extra (?:inputs|fields)|input should be|literal_error|validation error|invalid|must be|not a valid"
    r"|failed to (?:parse|initialize|compile)|cannot be used|only supports?\b"
)
_MEDIA: Final = regex(
    r"content.?types?\b|(?:image|audio|video|file|multi-?modal|vision)s? (?:input|content|url)|modalit"
    r"|support \w+ (?:use|input)|requested parameters?\b"
)
_NAMES_MODEL: Final = regex(r"(?<!/)\bmodels?\b")
_MISSING: Final = regex(r"\bnot (?:found|exist)|n.t exist")
_NO_SUCH: Final = regex(r"\b(?:no such|unknown) model\b|not a valid model identifier")
_NO_MODEL: Final = "invalid model name passed in model="  # LiteLLM has no code for it
_UPSTREAM_KEY: Final = "litellm.authenticationerror"  # the provider refuses the gateway's own key
_HEADERS: Final = regex(r"\bx-portkey-|^invalid (?:provider|config|custom host)\b")
_NOWHERE: Final = regex(r"(?:not found|method not allowed)?\W*", re.IGNORECASE)  # messages that say nothing
_LIMIT: Final = regex(
    r"rate.?limit|too many (?:requests|tokens)|\b(?:qps|rpm|tpm|rps)\b|throttl|requests? limit|concurrency|slow down"
    r"|\u9650\u6d41|\u9891\u7387|\u901f\u7387|\u5e76\u53d1"
)
_NO_CREDIT: Final = regex(
    r"insufficient (?:account )?(?:balance|quota|credit|fund)|out of credits?|no credits? left"
    r"|not enough (?:balance|credit)|balance (?:is )?(?:not enough|insufficient|exhausted)"
    r"|arrear|\u4f59\u989d|\u6b20\u8d39"
)
_WRONG_KEY: Final = regex(
    r"(?:invalid|incorrect|wrong|expired|missing|unauthorized|no) (?:api.?key|access.?token|token|authorization)"
    r"|(?:api.?key|token) (?:is )?(?:not valid|invalid|incorrect|expired)"
    r"|unauthorized|login fail|authentication fail"
)
_ROW: Final = regex(
    r"invalid (?:param|request|input|prompt|message|image)|too long|context (?:length|window|size)|token limit"
    r"|exceeds? the max"
)

# --- Statuses ---
_BAD_REQUEST: Final = 400
_BUDGET: Final = 412  # Portkey: its own budget is used up
_DENIED: Final = (446, 451)  # Portkey: a guardrail denied the request; StepFun: the content is blocked
_RETRYABLE: Final = frozenset({408, 409, 425, 498, 499})
"""498: Groq's flexible tier has no capacity. 499: something on the way, such as nginx, gave up the call."""

_BROKEN: Final = 500
_NOT_IMPLEMENTED: Final = 501
_SPEAKING: Final = (
    _BROKEN,
    _NOT_IMPLEMENTED,
)  # sent for a server's failure and for a client's mistake: the message decides


class About(Enum):
    """The cause of a refusal, and what follows from it for this row and the run."""

    ACCOUNT = "no credit is left: no call works"
    GATEWAY_KEY = "the gateway's own key is refused: no call works"
    KEY = "the key is refused: no call works"
    ACCESS = "the key may not do this, or something before the endpoint stops the call: this row's, if others work"
    GATEWAY = "the gateway does not understand its headers: no call works"
    MODEL = "there is no such model: this row's, if others work"
    ADDRESS = "nothing is there: this row's, if others work"
    CONTENT = "a content filter refuses this row"
    SAMPLE = "what the model wrote for this row did not pass the endpoint's own check"
    REQUEST = "this row, or a parameter of the request, as its words say"
    RATE = "too many calls: it passes"
    HEALTH = "the endpoint failed: it passes"
    ELSEWHERE = "the endpoint is at another URL"


class ErrorBody(NamedTuple):
    """The message of an error body, and its code and type if it has them."""

    message: str
    code: str = ""
    type: str = ""

    @property
    def names(self) -> set[str]:
        """The code and the type in lower case, without separators: `RateLimitExceeded` is `rate_limit_exceeded`."""
        return {_plain(self.code), _plain(self.type)} - {""}


def read_error(body: Any, mask: Masker = _UNKNOWING) -> ErrorBody:
    """Reads an error body of any shape: OpenAI's, FastAPI's, problem+json, server-sent events, plain text, HTML.

    Text is masked before it is cut, or the cut could leave half of a secret.
    """
    if isinstance(body, bytes | bytearray | str):
        text = body if isinstance(body, str) else decoded_text(bytes(body[:_MOST_READ]))[0]
        text = mask(text[:_MOST_READ])
        text = (text[:-_READ] if len(body) > _MOST_READ else text).lstrip("\ufeff \t\r\n")
        if text.startswith(("data:", "event:", "error:")):
            found = (data for data, _ in events([text.encode("utf-8", "replace")]))
            text = next(filter(bytes.strip, found), b"").decode().lstrip() or text
        try:
            return _found(loads(text) if text.startswith(("{", "[")) else text, _DEEPEST, mask)
        except ValueError:
            return ErrorBody(_one_line(text, mask))
    return _found(body, _DEEPEST, mask)


def _found(body: Any, depth: int, mask: Masker) -> ErrorBody:
    if not depth:
        return ErrorBody("")
    if isinstance(body, list):
        if len(body) == 1 and isinstance(body[0], dict) and "error" in body[0]:  # Google
            return _found(body[0], depth - 1, mask)
        return ErrorBody("; ".join(filter(None, (_found(each, depth - 1, mask).message for each in body[:3]))))
    if not isinstance(body, dict):
        return ErrorBody(_one_line(str(body), mask))
    error = body.get("error")
    if error and isinstance(error, dict):
        inner = _found({key: value for key, value in error.items() if key != "error"}, depth - 1, mask)
        return inner if inner.message else inner._replace(message=_as_json(error, mask))
    message = next((body[key] for key in MESSAGES if body.get(key)), None)
    if isinstance(message, dict | list):
        return _found(message, depth - 1, mask)
    reasons: list[Any] = next((body[key] for key in _REASONS if isinstance(body.get(key), list)), [])
    text, reason = "" if message is None else str(message), _found(reasons, depth - 1, mask).message
    text = text if reason in text else f"{text.rstrip('.')}: {reason}".removeprefix(": ")
    loc = body.get("loc")
    where = ".".join(str(part) for part in loc if isinstance(part, str | int)) + ": " if isinstance(loc, list) else ""
    code = next((body[name] for name in CODES if isinstance(body.get(name), str | int)), "")
    kind = body.get("type")
    if not isinstance(kind, str) and isinstance(status := body.get("status"), str) and status.isupper():
        kind = _reason(body) or status  # Google: `API_KEY_INVALID`, `RESOURCE_EXHAUSTED`
    return ErrorBody(_one_line(where + text, mask) if text else "", str(code), kind if isinstance(kind, str) else "")


def _reason(body: dict[str, Any]) -> str:
    """Returns the reason in the details of Google's errors (https://google.aip.dev/193), or an empty text."""
    details = body.get("details")
    found = (each.get("reason") for each in details if isinstance(each, dict)) if isinstance(details, list) else ()
    return next((reason for reason in found if reason and isinstance(reason, str)), "")


def error_of(
    status: int, headers: Mapping[str, str], body: Any, *, now: float, mask: Masker = _UNKNOWING
) -> ConnectorError:
    """Returns the error for a failed reply. `now` is the wall clock in seconds, for a Retry-After that is a date.

    An error inside a 200 has `status` 200. If its code is an HTTP status, that decides; else its code and message do,
    and if they say nothing, the server is taken to have failed. An error due to the request counts as a 400.
    """
    error = read_error(body, mask)
    if 200 <= status < 400 and _STATUS.fullmatch(error.code):  # noqa: PLR2004 - HTTP's classes of status
        status = int(error.code)
    about = about_of(status, error, headers.get("x-should-retry", "").lower())
    if status < 300 and about in (About.REQUEST, About.CONTENT, About.SAMPLE):  # noqa: PLR2004 - HTTP's class of success
        status = _BAD_REQUEST
    quoted = f"HTTP {status}" + (f": {readable(error.message, mask)}" if error.message else "")
    if about is About.RATE:
        message = f"the endpoint's rate limit is reached ({quoted})"
        return RateLimitError(message, http_status=status, wait=asked_wait(headers, now=now))
    if about is About.HEALTH:
        return ServerError(f"the endpoint failed ({quoted})", http_status=status, wait=asked_wait(headers, now=now))
    if about is About.ADDRESS:
        return NotFoundError(_not_found(error, quoted), http_status=status)
    if about is About.ELSEWHERE:
        quoted = readable(headers.get("location", "nowhere"), mask)
    kind, message = _ERRORS.get(about, _ERRORS[About.REQUEST])
    return kind(message.format(quoted), http_status=status)


_REDIRECTS: Final = "the endpoint redirects to "
_ERRORS: Final[Mapping[About, tuple[type[ConnectorError], str]]] = {
    About.ACCOUNT: (
        QuotaError,
        "the account has no credit left ({}): add credit, then run the same command again",
    ),
    About.GATEWAY_KEY: (
        AuthenticationError,
        "the gateway's own key for this model is refused ({}): have it changed there, or change model",
    ),
    About.KEY: (AuthenticationError, "the endpoint refuses the key ({}): set api_key or OPENAI_API_KEY"),
    About.ACCESS: (PermissionDeniedError, "the key may not do this ({}): use another key, model or region"),
    About.GATEWAY: (
        FatalError,
        'the gateway does not understand its headers ({}): set headers, as {{"x-portkey-provider": "openai"}}',
    ),
    About.MODEL: (NotFoundError, "the endpoint does not have this model ({}): change model"),
    About.ELSEWHERE: (BadRequestError, f"{_REDIRECTS}{{}}, where no key is sent: change url"),
    About.REQUEST: (BadRequestError, "the endpoint refuses this request ({})"),
}


def about_of(status: int, error: ErrorBody, should_retry: str = "") -> About:
    """Returns the cause of a refusal: by its code and type if these are known, else by its status and message.

    Args:
        status: The HTTP status; below 300 if only the body reports an error.
        error: What the body says.
        should_retry: The header `x-should-retry`, by which OpenAI's servers say whether to try again.
    """
    names, words = error.names, error.message[:_JUDGED].lower()
    is_client = status < _BROKEN
    fatal = _for_the_run(status, names, words) if is_client else None
    if fatal is not None:
        return fatal
    if _is_filtered(status, names, words):
        return About.CONTENT
    if names & _SAMPLE or (status in (_BAD_REQUEST, 422) and _SAMPLE_WORDS.search(words)):
        return About.SAMPLE
    if should_retry == "false":
        return About.REQUEST
    if status == 429 or _is_limited(status, names, words):  # noqa: PLR2004 - Too Many Requests
        return About.RATE
    if status < 300:  # noqa: PLR2004 - HTTP's class of success
        return _inside(error, names, words)
    if status == 403:  # noqa: PLR2004 - Forbidden
        return About.ACCESS
    if is_client and (names & _MODEL or _NO_MODEL in words):
        return About.MODEL
    if status in (404, 405):
        is_about_request = _MEDIA.search(words) and not _lacks_model(words)
        return About.REQUEST if is_about_request else About.ADDRESS
    if status in _SPEAKING and should_retry != "true":
        if _lacks_model(words):
            return About.ADDRESS
        if _PARAMETER.search(words) and _REFUSES.search(words):
            return About.REQUEST
        if status == _NOT_IMPLEMENTED:
            return About.ADDRESS
    if status in _RETRYABLE or names & _OVERLOADED or status >= _BROKEN or should_retry == "true":
        return About.HEALTH
    return About.ELSEWHERE if status < _BAD_REQUEST else About.REQUEST


def _for_the_run(status: int, names: set[str], words: str) -> About | None:
    """Returns a cause that ends the run, judged only by what no row can bring about; else `None`."""
    is_speaking = status < 300 or status in (402, 403)  # noqa: PLR2004 - where messages are about account and key
    if names & _ACCOUNT or status == 402 or (status == _BUDGET and "budget" in words):  # noqa: PLR2004 - Payment Required
        return About.ACCOUNT
    if is_speaking and _NO_CREDIT.search(words):
        return About.ACCOUNT
    if _UPSTREAM_KEY in words:
        return About.GATEWAY_KEY
    if status == 401 or names & _KEY or (status < 300 and _WRONG_KEY.search(words)):  # noqa: PLR2004 - Unauthorized
        return About.KEY
    return About.GATEWAY if status == _BAD_REQUEST and _HEADERS.search(words) else None


def _inside(error: ErrorBody, names: set[str], words: str) -> About:
    """Returns the cause of an error inside a 200 that is not about filter, account, key or rate."""
    if names & _MODEL or _NO_MODEL in words or _lacks_model(words):
        return About.MODEL
    is_final = _plain(error.code).startswith(_FINAL) or names & _REFUSED
    is_refused = _ROW.search(words) or (_PARAMETER.search(words) and _REFUSES.search(words))
    return About.REQUEST if is_final or is_refused else About.HEALTH


def _is_filtered(status: int, names: set[str], words: str) -> bool:
    if status in _DENIED or any(map(_FILTER_CODE.search, names)):
        return True
    has_words = _FILTER.search(words) is not None
    return has_words and status not in (404, 405, 429) and status <= _BROKEN


def _is_limited(status: int, names: set[str], words: str) -> bool:
    if names & _LIMITED or any(name.startswith(_THROTTLED) for name in names):
        return True
    return (status < 300 or status == 403 or status >= _BROKEN) and _LIMIT.search(words) is not None  # noqa: PLR2004 - HTTP's statuses


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def refusal(reply: Reply) -> BadRequestError:
    """Returns the error of a row whose request was refused, from its stored reply.

    Where the endpoint says nothing, or redirects, the message is that of `error_of`.
    """
    stored = _stored(reply).message
    silent = f"the endpoint refuses this request (HTTP {reply.status})"
    is_ours = stored in ("", silent) or _is_redirect(reply.status, stored)
    message = (stored or silent) if is_ours else f"{silent[:-1]}: {stored})"
    return BadRequestError(message, http_status=reply.status)


def _is_redirect(status: int | None, message: str) -> bool:
    return status is not None and status < _BAD_REQUEST and message.startswith(_REDIRECTS)


def final_reply(error: ConnectorError, body: Any, headers: Mapping[str, str], latency_ms: int, mask: Masker) -> Reply:
    """Returns a refusal of this request alone as a final reply, to be stored. Raises any other error.

    `body` is the error body from which `error` was made. The reply holds only masked text of it.
    """
    if isinstance(error, FatalError | RetryableError):
        raise error
    message, code, kind = (readable(text, mask) for text in read_error(body, mask))
    if not message or _is_redirect(error.http_status, error.message):
        message = error.message
    kept = {"message": message, "type": kind, "code": code}
    return Reply(error.http_status or _BAD_REQUEST, {"error": kept}, dict(headers), latency_ms)


def is_filtered(reply: Reply) -> bool:
    """Returns whether a content filter refused the request, by the codes and messages of many vendors."""
    return _about(reply) is About.CONTENT


def parameter_words(result: Reply | ConnectorError) -> str:
    """Returns the message, in lower case, of a refusal that may be about a parameter; empty for any other failure.

    Only such a refusal may change the requests of other rows.
    """
    if not isinstance(result, Reply) or _about(result) is not About.REQUEST:
        return ""
    error = _stored(result)
    return "" if _plain(error.code) in _TOO_LONG else " ".join(filter(None, error)).lower()


def fails_at_the_request(error: ConnectorError) -> bool:
    """Returns whether a failure may be due to the request although it does not say so: a bare 500."""
    return isinstance(error, ServerError) and error.http_status == _BROKEN


def _about(reply: Reply) -> About:
    return about_of(reply.status, _stored(reply))


def _stored(reply: Reply) -> ErrorBody:
    """Returns the error of a refusal as `final_reply` makes it; a ledger that others have changed holds any shape."""
    error = reply.body.get("error")
    given = error if isinstance(error, dict) else {}
    values = (given.get(name) for name in ("message", "code", "type"))
    return ErrorBody(*("" if value is None else str(value) for value in values))


def _not_found(error: ErrorBody, quoted: str) -> str:
    if _lacks_model(error.message[:_JUDGED].lower()):
        return f"the endpoint does not have this model ({quoted}): change model"
    is_nothing = _NOWHERE.fullmatch(error.message)
    what = "nothing answers at this URL" if is_nothing else "the endpoint does not have what is asked for"
    return f"{what} ({quoted}): check url, its /v1 and the model"


def _lacks_model(words: str) -> bool:
    """Returns whether the message of an error says that there is no such model."""
    named = _NAMES_MODEL.search(words)
    is_missing = named is not None and _MISSING.search(words, named.end()) is not None
    return is_missing or _NO_SUCH.search(words) is not None


def readable(text: str, mask: Masker) -> str:
    """Returns a masked text, then cut to a readable length: cutting first could leave half a secret."""
    text = mask(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _one_line(text: str, mask: Masker) -> str:
    """Returns the beginning of a text as one line, masked, without HTML tags, with runs of white space as one space."""
    text = mask.cut(text, _READ)
    if "<" in text and ">" in text:
        text = _HTML.sub(" ", text)
    return " ".join(text.split())


def _as_json(value: object, mask: Masker) -> str:
    try:
        return _one_line(dumps(value).decode(), mask)
    except TypeError:  # nested too deeply, or half of a surrogate pair
        return ""
