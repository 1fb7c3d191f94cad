"""Daphne, with four things it lacks for streams that last for hours.

- Backpressure. Daphne's `send` never waits: a client that stopped reading took 400 MB of a generator's output into
  memory. Here `send` waits while the transport is full, so a stuck reader costs one chunk.
- A short way to the socket. When nothing is buffered for a connection, a chunk of a stream is written to its socket
  at once; by way of Twisted it costs a turn of the reactor and two system calls more. (With that, uvloop under the
  reactor brought nothing that could be measured, so asyncio's own loop it is.)
- A goodbye. Daphne knows no lifespan, and drops its connections at SIGTERM. Here what runs beside the requests is
  started and stopped, and every stream is told farewell first.
- Room at the door. Fifty connections may wait to be accepted, and the kernel drops the rest, which try again after one
  second, three, seven: a thousand clients that came back at once took 14 s to get in. Here thousands may wait.
"""

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from daphne import server as daphne_server
from daphne.endpoints import build_endpoint_description_strings
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.management.commands.runserver import get_default_application
from daphne.server import Server as DaphneServer
from twisted.internet import defer, reactor, tcp
from twisted.internet.interfaces import IPushProducer
from twisted.web import http
from zope.interface import implementer

from events import lifecycle
from events.asgi import QUICK_WRITE
from events.service import service
from events.steps import begin
from events.wheel import close_connections

logger = logging.getLogger("vibe")

_BODY: Final = "http.response.body"
_BACKLOG: Final = 4096
"""Connections that may wait to be accepted; the kernel's own limit (net.core.somaxconn) is the same by default."""
_LARGEST_BODY: Final = 10 * 1024**2
"""More than Django reads of one. Daphne keeps all of it, and in memory in the end, before anybody asks who sends it."""

# Twisted says "Unknown Status" with some, 422 and 429 among them.
http.RESPONSES.update({status.value: status.phrase.encode() for status in HTTPStatus})


def run(host: str, port: int, *, on_listening: Callable[[], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then says goodbye and returns. `on_listening` is called once, when it listens.

    Raises SystemExit(1), after saying why, where the address cannot be had.
    """
    _allow_open_files(service.max_streams + 1024)
    server = Server(
        get_default_application(),
        endpoints=build_endpoint_description_strings(host=host, port=port),
        server_name="",
        on_listening=on_listening,
    )
    server.run()
    if server.failure:
        raise SystemExit(
            f"Cannot listen on {host}, port {port}: {server.failure} Choose others by HOST and PORT."
        )


def serve_for_the_daphne_command() -> None:
    """Has the command `daphne`, which loads the application before it makes its server, make one of ours."""
    from daphne.cli import CommandLineInterface

    CommandLineInterface.server_class = Server


def _allow_open_files(wanted: int) -> None:
    """Raises the soft limit to what the streams may need, never the hard one, which is the administrator's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Request(WebRequest):
    """Daphne's, without what any stranger could do by it: fill the disk and the memory, open WebSockets, which nobody
    answers here, and say below which path the site lies."""

    _body_bytes = 0

    def handleContentChunk(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes <= _LARGEST_BODY:
            super().handleContentChunk(data)

    def process(self) -> Any:
        if self._body_bytes > _LARGEST_BODY:
            self.basic_error(413, b"Request Entity Too Large", f"At most {_LARGEST_BODY} bytes.")
            return None
        for name in (b"Upgrade", b"Daphne-Root-Path"):
            self.requestHeaders.removeHeader(name)
        return super().process()


class _Factory(HTTPFactory):
    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)
        channel.requestFactory = _Request
        return channel


daphne_server.HTTPFactory = _Factory


@implementer(IPushProducer)
class _Gate:
    """Lets `send` through while the transport takes data. One a response; it is the transport's producer."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: asyncio.Future[None] | None = None

    def pauseProducing(self) -> None:
        if self._open is None:
            self._open = asyncio.get_running_loop().create_future()

    def resumeProducing(self) -> None:
        if self._open is not None:
            if not self._open.done():
                self._open.set_result(None)
            self._open = None

    stopProducing = resumeProducing

    @property
    def shut(self) -> "asyncio.Future[None] | None":
        return self._open


class Server(DaphneServer):
    def __init__(self, *args: Any, on_listening: Callable[[], None] | None = None, **kwargs: Any) -> None:
        if kwargs.get("http_timeout"):
            logger.warning("http_timeout=%s is ignored: it would cut streams.", kwargs["http_timeout"])
            kwargs["http_timeout"] = None
        super().__init__(*args, **kwargs)
        self.failure = ""
        self._on_listening = on_listening
        self._ports: list[Any] = []
        self._framed: tuple[bytes, bytes] = (b"", b"")

    # --- the beginning and the end

    def listen_success(self, port: Any) -> None:
        super().listen_success(port)
        self._ports.append(port)
        port.socket.listen(_BACKLOG)
        # As soon as the loop turns, which is after the reactor calls itself running.
        reactor.callWhenRunning(lambda: asyncio.get_event_loop().call_soon(self._begin))

    def listen_error(self, failure: Any) -> None:
        self.failure = failure.getErrorMessage()
        super().listen_error(failure)

    def _begin(self) -> None:
        lifecycle.start()
        if self._on_listening is not None:
            announce, self._on_listening = self._on_listening, None
            reactor.callInThread(_announce, announce)

    def kill_all_applications(self) -> Any:
        """Runs before the reactor stops, which waits for it."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._goodbye()))

    async def _goodbye(self) -> None:
        for port in self._ports:
            port.stopListening()
        await service.close_all()
        lifecycle.stop()
        left = [one for one in map(_application, self.connections.values()) if one and not one.done()]
        if left:
            await asyncio.wait(left, timeout=0.2)
        for one in left:
            one.cancel()

    # --- keeping house

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] == "http":
            scope["extensions"] = {QUICK_WRITE: partial(self._quick_write, protocol)}
        queue = super().create_application(protocol, scope)
        if running := _application(self.connections.get(protocol, {})):
            running.add_done_callback(lambda _: self._reap(protocol))
        return queue

    def protocol_disconnected(self, protocol: Any) -> None:
        super().protocol_disconnected(protocol)
        self._reap(protocol)

    def application_checker(self) -> None:
        """Not needed: what has ended is cleared away when it ends. Daphne looks at every connection each second."""

    def timeout_checker(self) -> None:
        """Not needed: the only time limit it enforces on HTTP would cut streams."""

    def _reap(self, protocol: Any) -> None:
        """Clears away what has ended: the application, and with it the connection if that has ended too."""
        details = self.connections.get(protocol)
        if details is None:
            return
        running = _application(details)
        if running is None or running.done():
            if running is not None:
                del details["application_instance"]
                self._report(protocol, running, details)
            if details.get("disconnected"):
                del self.connections[protocol]
        elif details.get("disconnected"):
            reactor.callLater(self.application_close_timeout, self._give_up, protocol)

    def _report(self, protocol: Any, ended: "asyncio.Future[None]", details: dict[str, Any]) -> None:
        error = None if ended.cancelled() else ended.exception()
        if error is not None:
            logger.error("Exception inside application: %s", error, exc_info=error)
            if details.get("disconnected"):
                return
            if not protocol._response_started:
                protocol.handle_exception(error)
            elif (
                not protocol.finished
            ):  # Too late for a page of its own: the client sees that this was not all.
                protocol.channel.transport.abortConnection()

    def _give_up(self, protocol: Any) -> None:
        running = _application(self.connections.get(protocol, {}))
        if running is not None and not running.done():
            logger.warning(
                "An application did not end within %ss of its client", self.application_close_timeout
            )
            running.cancel()

    # --- sending

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        if message["type"] == _BODY:
            gate: _Gate | None = getattr(protocol, "gate", None)
            if not message.get("more_body", False):
                if gate is not None and protocol.channel is not None:
                    protocol.unregisterProducer()
            elif gate is None:
                await super().handle_reply(protocol, message)
                self._make_gate(protocol)
                return
            else:
                if not self._write_directly(protocol, message["body"]):
                    await super().handle_reply(protocol, message)
                if gate.shut is not None:
                    await gate.shut
                return
        await super().handle_reply(protocol, message)

    def _quick_write(self, protocol: Any, data: bytes) -> Awaitable[None] | None:
        gate: _Gate | None = protocol.__dict__.get("gate")
        if gate is not None and gate.shut is None and self._write_directly(protocol, data):
            return gate.shut
        return begin(self.handle_reply(protocol, {"type": _BODY, "body": data, "more_body": True}))

    def _make_gate(self, protocol: Any) -> None:
        if protocol.channel is not None and not protocol.finished:
            protocol.gate = _Gate()
            protocol.registerProducer(protocol.gate, True)

    def _write_directly(self, protocol: Any, body: bytes) -> bool:
        """Whether the chunk went to the socket, or to the transport, without passing through daphne's layers."""
        channel = protocol.channel
        if channel is None or not protocol.chunked or protocol.finished or not body:
            return False
        transport = channel.transport
        if type(transport) is not tcp.Server or transport.dataBuffer or transport._tempDataBuffer:
            return False
        if transport.disconnecting or not transport.connected:
            return False
        framed = self._frame(body)
        try:
            sent = transport.socket.send(framed)
        except OSError:
            # The socket is full, or gone; Twisted finds that out too, and does what is to be done.
            sent = 0
        if sent < len(framed):
            transport.write(framed[sent:])
        return True

    def _frame(self, body: bytes) -> bytes:
        """The chunk in HTTP's own framing; many readers in a row are sent the same one."""
        last, framed = self._framed
        if last is not body:
            framed = b"%x\r\n%b\r\n" % (len(body), body)
            self._framed = (body, framed)
        return framed


def _announce(announce: Callable[[], None]) -> None:
    try:
        announce()
    finally:
        close_connections()


def _application(details: dict[str, Any]) -> "asyncio.Future[None] | None":
    found: asyncio.Future[None] | None = details.get("application_instance")
    return found
