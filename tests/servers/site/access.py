"""Who is who is what the request says. A user who wrote their name into the table of the revoked is out."""

from collections.abc import Collection, Mapping

from django.db import connection
from django.http import HttpRequest

from events.access import ALL, Principal, Scope, ScopeId


class ByHeader:
    def authenticate(self, request: HttpRequest) -> Principal | None:
        name = request.headers.get("X-User", "anybody")
        return None if name == "nobody" else Principal(name, f"header:{name}", name == "staff")

    def scope(self, principal: Principal) -> Scope:
        _revoked()
        return ALL

    def scopes_of(self, stream_ids: Collection[str]) -> Mapping[str, ScopeId]:
        return dict.fromkeys(stream_ids, "everywhere")

    def still_valid(self, principals: Collection[Principal]) -> Mapping[Principal, Scope]:
        revoked = _revoked()
        return {one: ALL for one in principals if one.user_id not in revoked}


def _revoked() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS revoked (name text)")
        cursor.execute("SELECT name FROM revoked")
        return {name for (name,) in cursor.fetchall()}
