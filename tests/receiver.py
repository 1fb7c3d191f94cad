"""A real HTTP server that webhooks are sent to. It remembers what came, and answers as it is told."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Message:
    headers: dict[str, str]
    body: bytes
    answered: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """`receiver.answer = lambda number: 500` says how to answer the number-th message, counted from 0."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.answer: Callable[[int], int] = lambda number: 204
        self.headers: dict[str, str] = {}
        self.drip = 0.0
        """If set, a header comes every so many seconds, for a minute or until the sender hangs up."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def accepted(self) -> list[Message]:
        return [message for message in self.messages if message.answered < 300]

    def of_type(self, kind: str) -> list[Any]:
        """The messages of a type that were accepted, each once, in the order they came."""
        seen = {message.headers["webhook-id"]: message.json for message in self.accepted()}
        return [message for message in seen.values() if message["type"] == kind]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answer(len(receiver.messages))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.messages.append(Message(headers, body, status))
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                for number in range(int(60 / receiver.drip) if receiver.drip else 0):
                    self.send_header(f"X-Drip-{number}", "drop")
                    self.flush_headers()
                    time.sleep(receiver.drip)
                self.end_headers()
                if status not in (204, 304):
                    self.wfile.write(b"the receiver's own words")

            def log_message(self, *args: object) -> None:
                pass

        return Handler
