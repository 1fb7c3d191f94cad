"""asyncio that writes bytes, and nothing else: the limit. `python -m benchmarks.peers.bare PORT`."""

import asyncio
import sys
from collections import defaultdict
from functools import partial
from urllib.parse import parse_qs, urlsplit

from benchmarks import pace

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
readers: defaultdict[str, set[asyncio.StreamWriter]] = defaultdict(set)
history: defaultdict[str, list[bytes]] = defaultdict(list)
tasks: set[asyncio.Task[None]] = set()


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def send(key: str, text: str) -> None:
    data = framed(b"id: %d\ndata: %b\n\n" % (len(history[key]), text.encode()))
    history[key].append(data)
    for writer in readers[key]:
        writer.write(data)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    address = urlsplit(request.split()[1])
    key = address.path.rpartition("/")[2]
    if address.path.startswith("/publish"):
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        task = asyncio.create_task(
            pace.publish(partial(send, key), int(asked["count"]), int(asked["size"]), float(asked["rate"]))
        )
        tasks.add(task)
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        return
    writer.write(HEAD + framed(b": hello\n\n") + b"".join(history[key]))
    readers[key].add(writer)
    await reader.read()
    readers[key].discard(writer)
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
