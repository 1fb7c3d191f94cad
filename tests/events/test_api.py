"""The views of streams: what an answer that is no stream, or not yet one, leaves behind."""

import asyncio
import threading

import pytest
from django.contrib.auth.models import User
from django.core.handlers.base import BaseHandler
from django.db import connection, connections
from django.test import AsyncClient, Client, RequestFactory

from events.access import Principal
from events.api import PermittedBundle, PermittedStream, opened, stream
from events.logs import Log, Reader
from events.service import UnknownStream, service
from events.subscriptions import Subscription
from tasks import tokens

READER = Reader(Principal("somebody", "test"))


async def test_a_stream_that_cannot_be_made_gives_its_place_back(monkeypatch):
    monkeypatch.setattr(service, "max_streams_per_user", 1)
    service.register_memory("a-room")
    request = RequestFactory().get("/")
    with pytest.raises(UnknownStream):
        await opened(request, PermittedStream(request, "no-such-kind", READER))
    found = await opened(request, PermittedStream(request, "a-room", READER))
    assert isinstance(found, Subscription)
    refused = await opened(request, PermittedStream(request, "a-room", READER))
    assert refused.status_code == 429
    found.leave()


async def test_each_of_two_equal_bundles_knows_its_own_client():
    """Their requests may share an answer; cutting off the one must not take the other along."""
    service.register_memory("a-room")
    asked = [RequestFactory().get("/") for _ in range(2)]
    for port, request in enumerate(asked):
        request.scope = {"client": ("127.0.0.1", port)}
    shared = PermittedBundle(asked[0], [(asked[0], PermittedStream(asked[0], "a-room", READER))])
    bundles = [await opened(request, shared) for request in asked]
    assert sorted(one.client for one in service.subscriptions()) == [("127.0.0.1", 0), ("127.0.0.1", 1)]
    for bundle in bundles:
        bundle.leave()


def test_the_thread_of_another_handler_keeps_no_connection_for_a_stream(transactional_db, monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    view = BaseHandler().make_view_atomic(stream("changes"))
    secret = tokens.issue_token(User.objects.create_user("ada"))
    request = RequestFactory().head("/", headers={"Authorization": f"Bearer {secret}"})
    seen = []

    def handle() -> None:
        """What a handler does that knows nothing of streams."""
        response = view(request)
        seen.append((response.status_code, connection.connection))

    thread = threading.Thread(target=handle)
    thread.start()
    thread.join(30)
    assert seen == [(200, None)]


@pytest.mark.parametrize("address", ["?project_id=x", "processes/x/logs", "task-attempts/x/diff"])
def test_who_is_not_signed_in_hears_that_whatever_they_ask_for(transactional_db, address):
    client = Client()
    assert client.get(f"/api/events/{address}").status_code == 401
    client.force_login(User.objects.create_superuser("ada"))
    assert client.get(f"/api/events/{address}").status_code == 404


def test_clients_in_loops_of_their_own_read_and_leave_nothing_behind(transactional_db, monkeypatch):
    """As the tests of a project do, one after the other in one process."""
    monkeypatch.setattr(service, "linger", 0)
    user = User.objects.create_superuser("ada")
    client = Client()
    client.force_login(user)
    response = client.get("/api/events/")
    assert response.status_code == 200
    response.close()
    assert not service.has_subscriptions()
    abandoned = asyncio.run(_read_some(user, ends_well=False))
    assert asyncio.run(_read_some(user, ends_well=True)) is not abandoned
    assert not service.has_subscriptions()


async def _read_some(user: User, *, ends_well: bool) -> Log:
    """The log that was read."""
    client = AsyncClient()
    await client.aforce_login(user)
    response = await client.get("/api/events/")
    chunks = aiter(response.streaming_content)
    log = service.log("changes")
    async with asyncio.timeout(20):
        assert (await anext(chunks)).startswith(b"retry: ")
        assert b'"path":""' in await anext(chunks)
        if not ends_well:
            await client.get("/api/events/")
        else:
            response.close()
            while "changes" in service.active_streams():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(task for task in service._closings if task.get_loop() is loop))
    return log
