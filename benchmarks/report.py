"""The table of figures and ratios, and what was to be reached beside what was."""

from collections.abc import Callable, Iterator

from benchmarks.measures import Measured

Figure = Callable[[Measured], float | None]

_COLUMNS: tuple[tuple[str, Figure, str], ...] = (
    ("burst, k/s", lambda one: one.burst and one.burst / 1000, "{:,.0f}"),
    ("lost, %", lambda one: one.burst_lost * 100, "{:.1f}"),
    ("steady p50, ms", lambda one: one.p50 and one.p50 * 1000, "{:.2f}"),
    ("p99, ms", lambda one: one.p99 and one.p99 * 1000, "{:.2f}"),
    ("replay x1, s", lambda one: one.replay, "{:.3f}"),
    ("x20, s", lambda one: one.replay_many, "{:.2f}"),
    ("KB a reader", lambda one: one.kilobytes, "{:.1f}"),
    ("connects/s", lambda one: one.connects, "{:,.0f}"),
    ("generator", lambda one: one.busy * 100, "{:.0f} %"),
)


def table(rows: list[Measured]) -> str:
    head = ["", *(title for title, _, _ in _COLUMNS)]
    lines = [head, *([row.name, *(_cell(row, column) for column in _COLUMNS)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def _cell(row: Measured, column: tuple[str, Figure, str]) -> str:
    value = column[1](row)
    return "-" if value is None else column[2].format(value)


def targets(rows: list[Measured]) -> Iterator[str]:
    """One line a target: met or missed, the ratio, and what it was to be."""
    by_name = {row.name: row for row in rows}
    for server, least, most in (("daphne", 1.2, 4.0), ("uvicorn", None, 2.0), ("granian", 2.0, 2.0)):
        us = by_name.get(f"ours on {server}")
        if us is None:
            continue
        nchan, bare = by_name.get("nginx + nchan"), by_name.get("bare asyncio")
        if nchan and least:
            yield _line(f"{server}: burst against nchan", _ratio(us.burst, nchan.burst), least, at_least=True)
        if bare:
            yield _line(
                f"{server}: steady p99 against bare asyncio", _ratio(us.p99, bare.p99), most, at_least=False
            )
        if nchan:
            yield _line(
                f"{server}: replay against nchan", _ratio(nchan.replay, us.replay), 100, at_least=True
            )
        for peer in ("sse-starlette", "django-eventstream"):
            if peer in by_name:
                yield from _ahead(server, us, by_name[peer])


def _ahead(server: str, us: Measured, peer: Measured) -> Iterator[str]:
    for what, ratio in (
        ("burst", _ratio(us.burst, peer.burst)),
        ("steady p50", _ratio(peer.p50, us.p50)),
        ("steady p99", _ratio(peer.p99, us.p99)),
        ("memory a reader", _ratio(peer.kilobytes, us.kilobytes)),
        ("connect rate", _ratio(us.connects, peer.connects)),
    ):
        yield _line(f"{server}: {what}, ahead of {peer.name}", ratio, 1, at_least=True)


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _line(what: str, ratio: float | None, wanted: float, *, at_least: bool) -> str:
    bound = f"at {'least' if at_least else 'most'} {wanted:g}"
    if ratio is None:
        return f"  -       {what}: not comparable ({bound})"
    met = ratio >= wanted if at_least else ratio <= wanted
    return f"  {'met   ' if met else 'MISSED'}  {what}: {ratio:.2f} ({bound})"
