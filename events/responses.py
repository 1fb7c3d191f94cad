"""EventStreamResponse: a subscription, or a bundle of them, as a Django response."""

from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse

from events.bundles import Bundle
from events.subscriptions import Subscription

CONTENT_TYPE = "text/event-stream"


def no_buffering(response: HttpResponseBase) -> None:
    """The headers that keep caches, proxies and compressors from holding a stream back."""
    response["Cache-Control"] = "no-cache, no-transform"
    response["X-Accel-Buffering"] = "no"


def never_compress(request: HttpRequest) -> None:
    """GZipMiddleware would make each chunk a gzip member of its own, and hold it back."""
    request.META.pop("HTTP_ACCEPT_ENCODING", None)


class EventStreamResponse(StreamingHttpResponse):
    """Streams a subscription, which it owns: it is closed with the response, on every path.

    Any ASGI handler can send it. `events.asgi.StreamHandler` needs none: it holds no response, no request and no thread
    for as long as a stream lasts.
    """

    def __init__(self, request: HttpRequest, subscription: Subscription | Bundle) -> None:
        super().__init__(subscription, content_type=CONTENT_TYPE)
        self._subscription = subscription
        no_buffering(self)
        never_compress(request)

    def __aiter__(self) -> AsyncIterator[bytes]:
        # Not the wrapping generator of Django: closing that would leave the subscription open.
        return self._subscription

    def close(self) -> None:
        super().close()
        self._subscription.leave()


def headers_only(request: HttpRequest) -> HttpResponse:
    """The answer to HEAD."""
    response = HttpResponse(content_type=CONTENT_TYPE)
    no_buffering(response)
    never_compress(request)
    return response


def nobody_known() -> JsonResponse:
    """The answer to who has not said who they are."""
    return problem(401, "Sign in, or send a token.", WWW_Authenticate="Bearer")


def problem(status: int, detail: str, **headers: str) -> JsonResponse:
    """An error in the shape of the API's; header names have underscores for hyphens."""
    named: dict[str, Any] = {name.replace("_", "-"): value for name, value in headers.items()}
    return JsonResponse({"detail": detail}, status=status, headers=named)
