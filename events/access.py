"""Who may read what: the one small interface that the application implements.

The setting `EVENTS_ACCESS` names the class ("tasks.permissions.StreamAccess"); the engine makes one
instance a process. All methods are synchronous, may use the ORM, and are called in a thread.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Final, Protocol

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.module_loading import import_string

from events.conf import setting

ScopeId = Hashable
"""What visibility hangs on. The board's are the UUIDs of projects."""


class _All:
    """The scope of those who see everything."""

    def __contains__(self, item: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "ALL"


ALL: Final = _All()
Scope = _All | frozenset[ScopeId]


def narrowed(scope: Scope, to: ScopeId | None) -> Scope | None:
    """The part of a scope that a request asked for; None if it may not see that part."""
    if to is None:
        return scope
    return frozenset({to}) if to in scope else None


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved who they are, and by which credential: each credential can end on its own.

    `credential` is opaque to the engine, and is never logged ("session:<key>", "token:<id>").
    """

    user_id: int | str
    credential: str
    is_staff: bool = False


class Access(Protocol):
    def authenticate(self, request: HttpRequest) -> Principal | None:
        """Who asks, by session cookie or bearer token; None is answered with 401."""

    def scope(self, principal: Principal) -> Scope:
        """The scopes that this person may see."""

    def scopes_of(self, stream_ids: Collection[str]) -> Mapping[str, ScopeId]:
        """The scope in which each of these streams lies ("logs:<uuid>" -> its project's UUID).

        A stream that is left out does not exist: 404. "changes:<uuid>" is the part of the changes that lies in the
        scope of this UUID, as `?project_id=` asks for it. One query a kind, however many streams:
        the engine asks again for all open streams each heartbeat.
        """

    def still_valid(self, principals: Collection[Principal]) -> Mapping[Principal, Scope]:
        """The present scope of each whose credential still holds; who is left out loses their streams.

        One query set for all principals of all open streams, each heartbeat.
        """


class SignedIn:
    """The access of a project that names none: who is signed in reads every stream."""

    def authenticate(self, request: HttpRequest) -> Principal | None:
        user = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return None
        return Principal(user.pk, f"session:{request.session.session_key}", user.is_staff)

    def scope(self, principal: Principal) -> Scope:
        return ALL

    def scopes_of(self, stream_ids: Collection[str]) -> Mapping[str, ScopeId]:
        return dict.fromkeys(stream_ids, "everywhere")

    def still_valid(self, principals: Collection[Principal]) -> Mapping[Principal, Scope]:
        ids = {principal.user_id for principal in principals}
        active = set(
            get_user_model()._default_manager.filter(pk__in=ids, is_active=True).values_list("pk", flat=True)
        )
        sessions = import_module(settings.SESSION_ENGINE).SessionStore()
        return {
            principal: ALL
            for principal in principals
            if principal.user_id in active and sessions.exists(principal.credential.partition(":")[2])
        }


@cache
def access() -> Access:
    """The application's access rules."""
    found: Access = import_string(setting("EVENTS_ACCESS"))()
    return found
