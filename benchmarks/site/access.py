from collections.abc import Collection, Mapping

from events.access import ScopeId
from tasks.stream_access import StreamAccess


class RoomsToo(StreamAccess):
    """The board's rules; a room lies in a scope that only those see who see everything."""

    def scopes_of(self, stream_ids: Collection[str]) -> Mapping[str, ScopeId]:
        rooms = {one for one in stream_ids if one.startswith("room:")}
        return {**super().scopes_of(set(stream_ids) - rooms), **dict.fromkeys(rooms, "rooms")}
