"""Who may read which stream: the board's answers to the engine's questions (events/access.py)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import timezone

from events.access import ALL, Principal, Scope, ScopeId
from tasks.models import ApiToken, ExecutionProcess, Project, TaskAttempt
from tasks.tokens import bearer

CHANGES = "changes"


class StreamAccess:
    """Sessions and bearer tokens; the scope is the set of projects one is a member of, ALL for superusers."""

    def authenticate(self, request: HttpRequest) -> Principal | None:
        if "Authorization" in request.headers:
            token = bearer(request)
            if token is None:
                return None
            return Principal(token.user_id, f"token:{token.pk}", token.user.is_staff)
        user = request.user
        if not isinstance(user, User) or not user.is_active or request.session.session_key is None:
            return None
        # The hash changes with the password, which signs every other session out.
        credential = f"session:{request.session.session_key}:{user.get_session_auth_hash()}"
        return Principal(user.pk, credential, user.is_staff)

    def scope(self, principal: Principal) -> Scope:
        return _scopes([principal.user_id])[principal.user_id]

    def scopes_of(self, stream_ids: Collection[str]) -> Mapping[str, ScopeId]:
        by_kind: dict[str, dict[UUID, str]] = defaultdict(dict)
        found: dict[str, ScopeId] = {}
        for stream_id in stream_ids:
            kind, _, key = stream_id.partition(":")
            by_kind[kind][UUID(key)] = stream_id
        for kind, rows, path in (
            (CHANGES, Project.objects, "pk"),
            ("logs", ExecutionProcess.objects, "task_attempt__task__project_id"),
            ("diff", TaskAttempt.objects, "task__project_id"),
        ):
            names = by_kind[kind]
            for key, project in rows.filter(pk__in=names).values_list("pk", path) if names else ():
                found[names[key]] = project
        return found

    def still_valid(self, principals: Collection[Principal]) -> Mapping[Principal, Scope]:
        users: dict[int | str, User] = {
            user.pk: user for user in User.objects.filter(pk__in=_ids(principals), is_active=True)
        }
        sessions = _existing_sessions(principals)
        tokens = set(
            ApiToken.objects.filter(revoked_at=None, user__in=list(users)).values_list("pk", flat=True)
        )
        scopes = _scopes(users)

        def holds(principal: Principal) -> bool:
            user = users.get(principal.user_id)
            if user is None:
                return False
            kind, _, key = principal.credential.partition(":")
            if kind == "token":
                return int(key) in tokens
            session, _, password_hash = key.partition(":")
            return session in sessions and password_hash == user.get_session_auth_hash()

        return {principal: scopes[principal.user_id] for principal in principals if holds(principal)}


def _ids(principals: Iterable[Principal]) -> set[int | str]:
    return {principal.user_id for principal in principals}


def scope_of(user: User | AnonymousUser) -> Scope:
    """What the user's stream of changes shows."""
    return _scopes([user.pk])[user.pk] if user.pk is not None else frozenset()


def _scopes(user_ids: Iterable[int | str]) -> dict[int | str, Scope]:
    """The scope of each user, in one query."""
    found: dict[int | str, set[ScopeId]] = {key: set() for key in user_ids}
    everything = set()
    users = User.objects.filter(pk__in=list(found)).order_by()
    for user_id, is_superuser, project_id in users.values_list("pk", "is_superuser", "projects"):
        found[user_id].add(project_id)
        if is_superuser:
            everything.add(user_id)
    return {key: ALL if key in everything else frozenset(ids - {None}) for key, ids in found.items()}


def _existing_sessions(principals: Iterable[Principal]) -> set[str]:
    keys = {
        principal.credential.split(":")[1]
        for principal in principals
        if principal.credential.startswith("session:")
    }
    alive = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    return set(alive.values_list("session_key", flat=True))
