"""Requests for streams, answered many at a time: what is shared, and what never is."""

import asyncio
import threading
from io import BytesIO

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse

from events.admission import Admissions


def request(
    path: str = "/room/a", query: bytes = b"", host: str = "127.0.0.1", **headers: str
) -> HttpRequest:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return ASGIRequest(
        {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": query,
            "headers": named,
            "client": (host, 1),
        },
        BytesIO(),
    )


class Asked:
    """Notes each question; the first is answered only when `go` is set."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.go = threading.Event()

    def __call__(self, asked: HttpRequest) -> HttpResponse:
        self.requests.append(asked)
        assert self.go.wait(20)
        if asked.path == "/wrong":
            raise ZeroDivisionError
        return HttpResponse(str(len(self.requests)))


@pytest.fixture
def asked():
    found = Asked()
    yield found
    found.go.set()


async def begin(admissions: Admissions, *requests: HttpRequest) -> list[asyncio.Task]:
    """The tasks that wait for the answers, once all have asked."""
    tasks = [asyncio.create_task(admissions.answer(one)) for one in requests]
    await asyncio.sleep(0)
    return tasks


async def test_equal_requests_that_wait_together_share_an_answer(asked):
    admissions = Admissions(asked)
    tasks = await begin(
        admissions, request(cookie="a"), request(cookie="a"), request(cookie="a", last_event_id="7")
    )
    asked.go.set()
    first, *others = await asyncio.gather(*tasks)
    assert len(asked.requests) == 1
    assert all(other is first for other in others)


@pytest.mark.parametrize(
    "other",
    [
        request(cookie="b"),
        request(cookie="a", authorization="Bearer x"),
        request("/room/b", cookie="a"),
        request(query=b"project_id=1", cookie="a"),
        request(host="127.0.0.2", cookie="a"),
        request(cookie="a", host="elsewhere"),
        request(cookie="a", x_forwarded_proto="https"),
    ],
)
async def test_requests_that_differ_are_answered_each(asked, other):
    asked.go.set()
    admissions = Admissions(asked)
    one, two = await asyncio.gather(*await begin(admissions, request(cookie="a"), other))
    assert one is not two
    assert len(asked.requests) == 2


async def test_who_comes_while_the_answer_is_being_found_is_answered_anew(asked):
    """What was true before a request came is no answer to it: a token may have been revoked since."""
    admissions = Admissions(asked)
    tasks = await begin(admissions, request(cookie="a"))
    while not asked.requests:  # noqa: ASYNC110 - it is found in a thread
        await asyncio.sleep(0.001)
    tasks += await begin(admissions, request(cookie="a"))
    asked.go.set()
    assert [answer.content for answer in await asyncio.gather(*tasks)] == [b"1", b"2"]
    assert (await admissions.answer(request(cookie="a"))).content == b"3"


async def test_one_who_leaves_takes_nobody_along(asked):
    admissions = Admissions(asked)
    leaver, stayer = await begin(admissions, request(cookie="a"), request(cookie="a"))
    leaver.cancel()
    asked.go.set()
    assert (await stayer).status_code == 200
    assert leaver.cancelled()


async def test_more_than_one_turn_takes_are_all_answered(asked):
    asked.go.set()
    admissions = Admissions(asked)
    answers = await asyncio.gather(*(admissions.answer(request(cookie=str(n))) for n in range(100)))
    assert len({id(answer) for answer in answers}) == 100


async def test_nobody_waits_for_ever_for_an_answer_that_failed(asked):
    asked.go.set()
    admissions = Admissions(asked)
    failing = [asyncio.create_task(admissions.answer(request(f"/{n}"))) for n in range(40)]
    failing.append(asyncio.create_task(admissions.answer(request("/wrong"))))
    found = await asyncio.gather(*failing, return_exceptions=True)
    assert isinstance(found[-1], asyncio.CancelledError)
    with pytest.raises(ZeroDivisionError):
        await admissions._task
    assert (await admissions.answer(request())).status_code == 200
