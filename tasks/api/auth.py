"""Who calls: a bearer token, or the session cookie together with its CSRF token."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from ninja.errors import HttpError
from ninja.utils import check_csrf

from events.responses import nobody_known
from tasks.tokens import bearer


def caller(request: HttpRequest) -> User | None:
    """The user who calls, also set as `request.user`; None becomes 401.

    A token wins over a cookie, and a bad token is an error even beside a good cookie: whoever
    sends one means to be its owner.
    """
    if "Authorization" in request.headers:
        token = bearer(request)
        if token is None:
            return None
        request.user = token.user
        request.api_token = token  # type: ignore[attr-defined]
        return token.user
    if not request.user.is_authenticated:
        return None
    if check_csrf(request):
        raise HttpError(403, "The CSRF token is missing or wrong: send the csrftoken cookie as X-CSRFToken.")
    return request.user


def for_callers(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Guards the interface's description, which is no operation of it. A browser is sent to sign in; others get 401."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if caller(request) is not None:
            return view(request, *args, **kwargs)
        if "text/html" in request.headers.get("Accept", ""):
            return redirect_to_login(request.get_full_path())
        return nobody_known()

    return guarded


def user_of(request: HttpRequest) -> User:
    """The caller; only for operations that `caller` guards."""
    assert isinstance(request.user, User)
    return request.user
