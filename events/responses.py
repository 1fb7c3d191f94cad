"""EventStreamResponse: a subscription as a Django response."""

from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse

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

    Any ASGI handler can send it; `events.asgi.StreamHandler` does so without holding a thread,
    the request or this response for as long as the stream lasts.
    """

    def __init__(self, request: HttpRequest, subscription: Subscription) -> None:
        super().__init__(subscription, content_type=CONTENT_TYPE)
        self.subscription: Subscription | None = subscription
        """None once a handler has taken it over."""
        no_buffering(self)
        never_compress(request)

    def __aiter__(self) -> AsyncIterator[bytes]:
        # Not the wrapping generator of Django: closing that would leave the subscription open.
        if self.subscription is None:
            raise RuntimeError("This stream is being sent by another.")
        return self.subscription

    def close(self) -> None:
        super().close()
        if self.subscription is not None:
            self.subscription.leave()


def headers_only(request: HttpRequest) -> HttpResponse:
    """The answer to HEAD."""
    response = HttpResponse(content_type=CONTENT_TYPE)
    no_buffering(response)
    never_compress(request)
    return response


def problem(status: int, detail: str, **headers: str) -> JsonResponse:
    """An error in the shape of the API's; header names have underscores for hyphens."""
    named: dict[str, Any] = {name.replace("_", "-"): value for name, value in headers.items()}
    return JsonResponse({"detail": detail}, status=status, headers=named)
