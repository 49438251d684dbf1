"""A call through the adapter of `requests`, for programs that replace its `send`: the library `responses`, in tests.

Loaded only where that is so: `requests` takes a fifth of the time in which a run of one row is done.
"""

from __future__ import annotations

from collections.abc import Generator

from requests import PreparedRequest, Timeout
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from requests.structures import CaseInsensitiveDict
from urllib3 import BaseHTTPResponse
from urllib3 import exceptions as urllib3_errors

from connector.base.errors import CutError
from connector.http.deadline import Deadline
from connector.http.http1 import PIECE, cut
from connector.http.pool import RawResponse
from connector.http.preparing import Request, Settings
from connector.http.upload import Upload


def exchange(request: Request, body: bytes | Upload | None, deadline: Deadline, settings: Settings) -> RawResponse:
    """Sends a request as `Pool.exchange` does, and raises what it does. The deadline bounds each wait."""
    prepared = PreparedRequest()
    prepared.method, prepared.url, prepared.hooks = request.method, request.url, {"response": []}
    prepared.body = body  # type: ignore[assignment]  # an iterable with a length, which `requests` takes, too
    prepared.headers = CaseInsensitiveDict(request.headers)
    if body is not None:
        prepared.headers["Content-Length"] = str(len(body))
    try:
        response = HTTPAdapter().send(
            prepared,
            stream=True,
            timeout=deadline.left(),
            verify=settings.ca_bundle or True,
            cert=settings.client_cert,
            proxies={"http": settings.proxy, "https": settings.proxy} if settings.proxy else None,
        )
    except Timeout as error:
        raise TimeoutError(str(error)) from error
    except ChunkedEncodingError as error:
        raise CutError(f"the connection to {request.address} was lost in the middle of the reply") from error
    raw: BaseHTTPResponse = response.raw
    fields = {name.lower(): value for name, value in raw.headers.items()}
    return RawResponse(raw.status, fields, _pieces(raw), lambda _: raw.close())


def _pieces(raw: BaseHTTPResponse) -> Generator[bytes, None, bool]:
    try:
        yield from raw.stream(PIECE, decode_content=False)
    except urllib3_errors.TimeoutError as error:
        raise TimeoutError(str(error)) from error
    except urllib3_errors.HTTPError as error:
        raise cut(str(error)) from error
    return True
