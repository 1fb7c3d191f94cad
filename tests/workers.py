"""Runs the suite in several processes (`--workers N`), each a fork of the one that has collected it.

The workers of pytest-xdist collect each for themselves: two seconds of processor time for each of them, and four where
nothing is compiled yet. A fork has it all.
"""

import atexit
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

import pytest

from tests.early import have_own_data

Modules = list[list[pytest.Item]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--workers", type=int, default=1, help="run the modules of tests in so many processes")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    option = session.config.option
    if option.workers < 2 or option.collectonly or session.testsfailed:
        return None
    modules = [list(items) for _, items in groupby(session.items, key=lambda item: item.path)]
    left = deque(range(len(modules)))
    takes = (left.popleft, left.pop)
    workers = dict(start(session, modules, takes[number % 2]) for number in range(option.workers))
    try:
        hand_out(session, left, workers)
    finally:
        for worker in workers.values():
            os.kill(worker.pid, signal.SIGINT)
            os.waitpid(worker.pid, 0)
    return True


@dataclass
class Worker:
    pid: int
    take: Callable[[], int]
    test: str = "its first test"


def hand_out(session: pytest.Session, left: deque[int], workers: dict[Connection, Worker]) -> None:
    """Gives each worker a module when it asks, and reports what comes of the tests, until all have ended.

    Half of them take the first that is left and half the last: what is dear to begin with, as a browser is, stands at
    one end, what waits much at the other, and where they meet the short ones.
    """
    while workers:
        for line in wait(workers):
            try:
                said, told = line.recv()
            except EOFError:
                bury(session, workers.pop(line))
                continue
            if said == "next":
                ends = session.shouldfail or session.shouldstop or not left
                line.send(None if ends else workers[line].take())
            elif said == "start":
                workers[line].test = told["nodeid"]
                session.config.hook.pytest_runtest_logstart(**told)
            else:
                report = session.config.hook.pytest_report_from_serializable(config=session.config, data=told)
                session.config.hook.pytest_runtest_logreport(report=report)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)


def bury(session: pytest.Session, worker: Worker) -> None:
    _, status = os.waitpid(worker.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        session.shouldfail = f"a worker ended with {code} at {worker.test}"


def start(session: pytest.Session, modules: Modules, take: Callable[[], int]) -> tuple[Connection, Worker]:
    ours, its = Pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        work(session, modules, its)
    its.close()
    return ours, Worker(pid, take)


# --- in the worker


def work(session: pytest.Session, modules: Modules, line: Connection) -> NoReturn:
    code = 1
    try:
        have_own_data()
        report_to(line, session.config)
        try:
            run(session, tests_of(modules, line))
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # or a second one would leave servers behind
            session._setupstate.teardown_exact(None)
        code = 0
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the first process has gone, or goes
    except BaseException:  # noqa: BLE001 - what is above this belongs to another process
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        os._exit(code)


def report_to(line: Connection, config: pytest.Config) -> None:
    plugins = config.pluginmanager
    plugins.unregister(name="terminalreporter")
    plugins.register(Reporter(config, line))
    # Or all would write what they capture to one file.
    capture: Any = plugins.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture()


def tests_of(modules: Modules, line: Connection) -> Iterator[pytest.Item]:
    """The tests of one module after the other; the next is asked for when the one before is at its last."""
    while True:
        line.send(("next", None))
        number = line.recv()
        if number is None:
            return
        yield from modules[number]


def run(session: pytest.Session, tests: Iterator[pytest.Item]) -> None:
    test = next(tests, None)
    while test is not None:
        following = next(tests, None)
        session.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
        test = following


class Reporter:
    def __init__(self, config: pytest.Config, line: Connection) -> None:
        self._config = config
        self._line = line

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self._line.send(("start", {"nodeid": nodeid, "location": location}))

    def pytest_runtest_logreport(self, report: Any) -> None:
        told = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._line.send(("report", told))
