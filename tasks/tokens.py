"""Secrets that stand for a person: API tokens and single-use sign-in links. Only their SHA-256 is stored.

A plain hash is enough: the secrets have 256 random bits, so there is nothing to guess that a slow hash would guard.
"""

import hashlib
import secrets
from datetime import timedelta

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils import timezone

from tasks.models import ApiToken, SignInLink

SIGN_IN_LINK_LIFETIME = timedelta(hours=12)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def issue_token(user: User) -> str:
    """A new bearer token for the user; this is the only moment at which it can be read."""
    secret = f"vibe_{secrets.token_urlsafe(32)}"
    ApiToken.objects.create(user=user, digest=_digest(secret))
    return secret


def find_token(secret: str) -> ApiToken | None:
    """The token, with its user, if it is neither revoked nor its user deactivated."""
    return (
        ApiToken.objects.select_related("user")
        .filter(digest=_digest(secret), revoked_at=None, user__is_active=True)
        .first()
    )


def bearer(request: HttpRequest) -> ApiToken | None:
    """The valid token of the Authorization header; None if there is none or it is not valid."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return find_token(secret.strip()) if scheme.lower() == "bearer" else None


def make_sign_in_link(user: User) -> str:
    """A secret that signs the user in once, within SIGN_IN_LINK_LIFETIME."""
    now = timezone.now()
    SignInLink.objects.filter(expires_at__lt=now).delete()
    secret = secrets.token_urlsafe(32)
    SignInLink.objects.create(user=user, digest=_digest(secret), expires_at=now + SIGN_IN_LINK_LIFETIME)
    return secret


def use_sign_in_link(secret: str) -> User | None:
    """The user of an unused link, which is used up by this call; None for any other secret."""
    links = SignInLink.objects.filter(digest=_digest(secret), expires_at__gte=timezone.now())
    link = links.select_related("user").first()
    # Who deletes the row has the link: two clicks at once are one sign-in.
    if link is None or not link.user.is_active or not links.delete()[0]:
        return None
    return link.user
