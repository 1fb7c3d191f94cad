"""`python -m benchmarks [NAME…]`: measures the engine on each server, and its peers; prints figures and ratios."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from benchmarks import load, servers
from benchmarks.measures import BURST, READERS, SIZE, Measured, measure
from benchmarks.report import table, targets

CONTESTANTS: dict[str, Callable[[], AbstractContextManager[servers.Server]]] = {
    "bare": servers.bare,
    "nchan": servers.nchan,
    "starlette": servers.starlette,
    "eventstream": servers.eventstream,
    "daphne": partial(servers.ours, "daphne"),
    "uvicorn": partial(servers.ours, "uvicorn"),
    "granian": partial(servers.ours, "granian"),
}


def main(names: list[str]) -> None:
    load.allow_files(8192)
    rows: list[Measured] = []
    for name in names or CONTESTANTS:
        if name == "nchan" and not servers.has_nchan():
            print("nginx with nchan is not installed: left out.")
            continue
        started = time.monotonic()
        with CONTESTANTS[name]() as server:
            rows.append(measure(server))
        print(f"measured {name} in {time.monotonic() - started:.0f} s", file=sys.stderr)
    print(
        f"\n{READERS} readers, {BURST} messages of {SIZE} bytes; steady: 20 a second; replay: 100,000 messages\n"
    )
    print(table(rows))
    most = load.limit(READERS, BURST, SIZE)
    print(
        f"\nThe generator itself takes in {most / 1000:,.0f} k a second, from a sender that only copies bytes.\n"
    )
    print("Where a burst comes near that, it is the generator's figure, and its ratios are lower bounds.\n")
    print("To reach, and reached:")
    print("\n".join(targets(rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
