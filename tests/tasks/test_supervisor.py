"""The supervisor of a run, on real children."""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from tasks.supervision import child
from tasks.supervision.child import Pipes
from tasks.supervision.logfile import LogFile
from tasks.supervision.output import Output
from tasks.supervision.records import Clock
from tests.runs import Run, is_gone, wait_for
from tests.scale import scaled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def sh(folder: Path, script: str, **spec: object) -> Run:
    return Run(folder, "/bin/sh", "-c", script, **spec)


def python(folder: Path, script: str, **spec: object) -> Run:
    return Run(folder, sys.executable, "-c", script, **spec)


def test_output_and_exit_code_are_recorded(folder: Path) -> None:
    run = sh(folder, "echo out; sleep 0.2; echo err >&2; exit 3")
    ended = run.run()
    assert (ended["exit_code"], ended["reason"], ended["signal"]) == (3, "exited", None)
    assert [(r["type"], r["content"]) for r in run.records()] == [("stdout", "out"), ("stderr", "err")]
    assert set(run.records()[0]) == {"type", "content", "timestamp"}
    assert ended["started_at"] <= run.records()[0]["timestamp"] <= ended["ended_at"]


def test_it_stays_small(folder: Path) -> None:
    run = sh(folder, "sleep 30").start()
    pid = run.state()["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    run.stop()
    run.finish()
    assert memory < 15 * 1024


def test_its_start_loads_nothing_that_takes_longer_than_all_the_rest(folder: Path) -> None:
    run = sh(folder, "true")
    told = run.launch("-X", "importtime").stderr
    run.finish()
    loaded = {line.rpartition("|")[2].strip() for line in told.splitlines()}
    assert "tasks.supervision.main" in loaded
    assert not loaded & {"asyncio", "dataclasses", "inspect", "pathlib", "subprocess", "traceback", "typing"}


def test_it_is_no_child_of_whoever_starts_it(folder: Path) -> None:
    run = sh(folder, "sleep 30").start()
    fields = Path(f"/proc/{run.state()['pid']}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[1]) != os.getpid()
    assert int(fields[3]) != os.getsid(0)
    run.stop()
    assert run.finish()["reason"] == "stopped"


def test_its_child_ignores_and_blocks_none_of_its_signals(folder: Path) -> None:
    run = Run(folder, "/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    run.run()
    blocked, ignored = (int(line.split()[1], 16) for line in run.contents())
    expected = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    assert [number.name for number in expected if (blocked | ignored) >> (number - 1) & 1] == []


def test_a_prompt_without_line_end_appears_at_once_and_its_rest_follows(folder: Path) -> None:
    run = sh(folder, "printf 'name? '; sleep 1; echo Ada; echo next").start()
    wait_for(lambda: run.contents() == ["name? "], "the prompt", 0.9)
    run.finish()
    assert run.contents() == ["name? ", "Ada", "next"]
    assert [r.get("partial") for r in run.records()] == [True, None, None]


def test_a_line_whose_rest_is_there_is_one_record_however_late_it_is_read(tmp_path: Path) -> None:
    now = 0.0
    log = tmp_path / "log.jsonl"
    output = Output(str(log), 0, 65536, "", Clock(steady=lambda: now))
    (out, child), (err, _) = os.pipe(), os.pipe()
    output.attach(Pipes(-1, out, err))
    os.write(child, b"begun ")
    output.handle(out)
    now, _ = 1.0, os.write(child, b"and ended\nname? ")
    output.flush()
    now = 2.0
    output.flush()
    whole, prompt = map(json.loads, log.read_text().splitlines())
    assert whole == {"type": "stdout", "content": "begun and ended", "timestamp": whole["timestamp"]}
    assert (prompt["content"], prompt["partial"]) == ("name? ", True)


def test_a_large_prompt_reaches_standard_input(folder: Path) -> None:
    prompt = "ü" * 1_000_000
    run = python(folder, "import sys; print(len(sys.stdin.buffer.read()))", stdin=prompt)
    run.run()
    assert run.contents() == ["2000000"]


def test_a_child_that_reads_no_prompt_ends_normally(folder: Path) -> None:
    run = sh(folder, "echo ok", stdin="x" * 1_000_000)
    assert run.run()["exit_code"] == 0
    assert run.contents() == ["ok"]


def test_many_lines_arrive_complete_and_in_order(folder: Path) -> None:
    count = scaled(1_000_000, 100_000)
    padding = "x" * 90
    run = python(
        folder,
        f"import sys; w = sys.stdout.write\nfor i in range({count}): w(f'{{i:07d}} {padding}\\n')",
    )
    run.run()
    numbers = [int(line[:7]) for line in run.text().splitlines()]
    assert numbers == list(range(count))


def test_the_child_waits_rather_than_fill_memory(folder: Path) -> None:
    run = python(
        folder, "import sys; w = sys.stdout.write\nfor i in range(300000): w('y' * 200 + '\\n')"
    ).start()
    pid = run.state()["pid"]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.3)
    size = (folder / "log.jsonl").stat().st_size
    time.sleep(0.3)
    assert (folder / "log.jsonl").stat().st_size == size
    os.kill(pid, signal.SIGCONT)
    run.finish()
    assert len(run.text().splitlines()) == 300_000


def test_one_line_of_many_megabytes_is_split_with_a_mark(folder: Path) -> None:
    size = scaled(50_000_000, 5_000_000)
    run = python(folder, f"print('a' * {size})", max_message_bytes=65536)
    run.run()
    assert run.text() == "a" * size + "\n"
    assert max(map(len, (folder / "log.jsonl").read_bytes().splitlines())) <= 65536
    assert [bool(r.get("partial")) for r in run.records()][-1] is False


def test_what_is_said_past_the_limit_makes_no_room_for_output(folder: Path) -> None:
    folder.mkdir(parents=True)
    log = LogFile(str(folder / "log.jsonl"), 1000, lambda text: f"{text}\n".encode())
    log.append(b"a line of output\n" * 58)
    log.say("words of the board's own that are longer than what is left")
    log.append(b"more output\n" * 5000)
    assert b"more" not in (folder / "log.jsonl").read_bytes()


@pytest.mark.parametrize("limit", [4096, 65536])
def test_no_record_exceeds_the_limit_whatever_the_bytes(folder: Path, limit: int) -> None:
    run = python(
        folder,
        "import sys; sys.stdout.buffer.write((b'\\0' * 9000 + b'\\n' + b'\"\\\\' * 9000 + b'\\n') * 3)",
        max_message_bytes=limit,
    )
    run.run()
    assert max(map(len, (folder / "log.jsonl").read_bytes().splitlines())) <= limit
    assert run.text() == ("\0" * 9000 + "\n" + '"\\' * 9000 + "\n") * 3


def test_broken_utf8_nul_ansi_and_split_characters(folder: Path) -> None:
    run = python(
        folder,
        "import sys, time; o = sys.stdout.buffer\n"
        "o.write(b'\\xff\\xfe ok\\n'); o.write(b'nul \\0 nul\\n'); o.write(b'\\x1b[31mred\\x1b[0m\\n')\n"
        "o.write('half \\u20ac'.encode()[:-1]); o.flush(); time.sleep(0.5); o.write(b'\\xac done\\n')\n"
        "o.write(b'10%\\r20%\\r100%\\n'); o.write(b'crlf\\r\\n'); o.write(b'cut \\xe2\\x82')",
    )
    run.run()
    assert run.text().split("\n") == [
        "�� ok",
        "nul \0 nul",
        "\x1b[31mred\x1b[0m",
        "half €" + " done",
        "10%\r20%\r100%",
        "crlf",
        "cut �",
        "",
    ]


def test_stdout_and_stderr_keep_their_order(folder: Path) -> None:
    run = sh(folder, "for i in 1 2 3; do echo $i; sleep 0.15; echo $i >&2; sleep 0.15; done")
    run.run()
    assert [(r["type"], r["content"]) for r in run.records()] == [
        (kind, str(number)) for number in (1, 2, 3) for kind in ("stdout", "stderr")
    ]


def test_a_log_that_reaches_its_cap_says_so_and_the_run_goes_on(folder: Path) -> None:
    run = sh(folder, "seq 1 5000; exit 7", max_log_bytes=20_000)
    ended = run.run()
    assert ended["exit_code"] == 7
    notes = run.contents("system")
    assert "limit of 20000 bytes" in notes[0]
    kept = len(run.contents())
    assert notes[1].startswith(f"{5000 - kept} records (")
    assert [int(line) for line in run.contents()] == list(range(1, kept + 1))


def test_stop_goes_from_sigint_to_sigkill(folder: Path) -> None:
    run = python(
        folder,
        "import signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('int', flush=True))\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('term', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)",
    ).start()
    wait_for(lambda: run.contents() == ["ready"], "the start")
    run.stop("Stopped by Ada.", tell=False)
    ended = run.finish()
    assert (ended["reason"], ended["signal"], ended["exit_code"]) == ("stopped", "SIGKILL", -9)
    assert run.contents() == ["ready", "int", "term"]
    assert run.contents("system") == ["Stopped by Ada."]


def test_each_signal_has_its_own_grace(folder: Path) -> None:
    run = python(
        folder,
        "import signal, sys, time\n"
        "def end(*_): print(time.monotonic(), flush=True); time.sleep(0.5); sys.exit(9)\n"
        "signal.signal(signal.SIGINT, lambda *_: print(time.monotonic(), flush=True))\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)",
        graces=[1, 30],
    ).start()
    wait_for(lambda: run.contents() == ["ready"], "the start")
    run.stop()
    ended = run.finish(20)
    assert (ended["reason"], ended["exit_code"]) == ("stopped", 9), "it had time to end by itself"
    interrupted, terminated = map(float, run.contents()[1:])
    assert terminated - interrupted > 0.2


def test_stop_ends_what_is_suspended(folder: Path) -> None:
    run = sh(folder, "trap '' INT; trap 'exit 9' TERM; echo ready; kill -STOP $$", graces=[0.1, 30]).start()
    wait_for(lambda: run.contents() == ["ready"], "the start")
    wait_for(lambda: _state(run.state()["child"]) == "T", "the suspension")
    run.stop()
    assert run.finish(20)["exit_code"] == 9


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_child_does_not_outlive_its_supervisor(folder: Path) -> None:
    run = sh(folder, "trap '' INT TERM HUP; echo ready; while :; do sleep 0.1; done").start()
    wait_for(lambda: run.contents() == ["ready"], "the start")
    state = run.state()
    os.kill(state["pid"], signal.SIGKILL)
    wait_for(lambda: is_gone(state["child"]), "the end of the child")


def test_stop_asked_many_times_stops_once(folder: Path) -> None:
    run = sh(folder, "trap 'exit 0' INT; echo ready; while :; do sleep 0.1; done").start()
    wait_for(lambda: run.contents() == ["ready"], "the start")
    for _ in range(5):
        run.stop()
    ended = run.finish()
    assert (ended["reason"], ended["exit_code"]) == ("stopped", 0)
    assert len(run.contents("system")) == 1


def test_nothing_starts_that_was_stopped_while_its_worktree_was_made(folder: Path) -> None:
    run = sh(folder, "echo never")
    run.stop(tell=False)
    ended = run.run()
    assert (ended["reason"], ended["exit_code"]) == ("stopped", None)
    assert [record["type"] for record in run.records()] == ["system"]


def test_a_stop_that_comes_after_the_end_changes_nothing(folder: Path) -> None:
    run = sh(folder, "sleep 600 & echo early; exit 3").start()
    wait_for(lambda: run.contents() == ["early"] and is_gone(run.state()["child"]), "the end of the child")
    run.stop()
    ended = run.finish()
    assert (ended["reason"], ended["exit_code"]) == ("exited", 3)
    assert run.contents("system") == ["The program left processes behind; they are being stopped."]


_ESCAPE = """
import os, signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        while True: time.sleep(1)
    os._exit(0)
os.wait()
"""


def test_stop_finds_what_escaped_by_a_double_fork(folder: Path) -> None:
    run = python(folder, _ESCAPE + "time.sleep(600)").start()
    escaped = int(wait_for(run.contents, "the double fork")[0])
    run.stop()
    assert run.finish()["reason"] == "stopped"
    assert is_gone(escaped)


def test_stop_tells_also_what_is_in_another_session(folder: Path) -> None:
    (folder.parent / "inner.py").write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: (print('told', flush=True), sys.exit()))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)"
    )
    run = python(
        folder,
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "sys.exit(subprocess.call([sys.executable, '../inner.py'], start_new_session=True))",
        graces=[30, 30],
    ).start()
    wait_for(lambda: run.contents() == ["ready"], "the start")
    run.stop()
    assert run.finish(20)["exit_code"] == 0
    assert run.contents() == ["ready", "told"]


class Unkillable:
    """A family of which each look finds what is given, whatever it is sent."""

    def __init__(self, *found: set[tuple[int, int]]) -> None:
        self.found = itertools.cycle(found)
        self.sent: list[signal.Signals] = []

    def signal(self, number: signal.Signals) -> set[tuple[int, int]]:
        self.sent.append(number)
        return next(self.found)


@pytest.mark.parametrize(
    ("found", "rarely"), [([{(7, 1)}], True), ([{(7, 1)}, {(8, 2)}], False), ([set()], False)]
)
def test_what_may_not_be_killed_is_killed_less_and_less_often(
    found: list[set[tuple[int, int]]], rarely: bool
) -> None:
    family = Unkillable(*found)
    stopping = child.Stopping(cast(child.Family, family), [], 0)
    for hundredths in range(6000):
        stopping.go_on(hundredths / 100)
    assert (family.sent.count(signal.SIGKILL) < 60) is rarely


def test_stop_ends_what_forks_faster_than_it_is_found(folder: Path) -> None:
    relay = (
        "import os, signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        "if os.fork() == 0:\n"
        "    end = time.monotonic() + 90\n"
        "    while time.monotonic() < end and os.fork() == 0:\n"
        "        os.setsid()\n"
        "        os.utime('beat')\n"
        "    os._exit(0)\n"
        "time.sleep(600)"
    )
    run = python(folder, relay, graces=[0.1, 0.1])
    beat = folder / "beat"
    beat.touch()
    run.start()
    wait_for(run.contents, "the start")
    run.stop()
    assert run.finish()["reason"] == "stopped"
    last = beat.stat().st_mtime_ns
    time.sleep(0.2)
    assert beat.stat().st_mtime_ns == last


def test_what_a_child_leaves_behind_is_ended_with_it(folder: Path) -> None:
    run = python(folder, _ESCAPE + "sys.exit(5)").start()
    ended = run.finish()
    assert (ended["reason"], ended["exit_code"]) == ("exited", 5)
    assert is_gone(int(run.contents()[0]))
    assert run.contents("system") == ["The program left processes behind; they are being stopped."]


def test_output_of_a_background_process_that_ends_soon_is_kept(folder: Path) -> None:
    run = sh(folder, "(sleep 0.3; echo late) & echo early")
    run.run()
    assert run.contents() == ["early", "late"]
    assert run.contents("system") == []


def test_a_run_ends_at_its_time_limit(folder: Path) -> None:
    run = sh(folder, "sleep 600", timeout=0.3)
    assert run.run()["reason"] == "timeout"
    assert "time limit of 0.3 seconds" in run.contents("system")[0]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("no-such-program", "no-such-program is not installed"),
        ("/no/such/program", "Cannot start /no/such/program: No such file or directory."),
        ("/etc/passwd", "Cannot start /etc/passwd: Permission denied."),
    ],
)
def test_a_program_that_cannot_start_leaves_a_message(folder: Path, program: str, words: str) -> None:
    run = Run(folder, program)
    ended = run.run()
    assert (ended["reason"], ended["exit_code"]) == ("not_started", None)
    assert words in ended["message"]
    assert run.contents("error") == [ended["message"]]


def test_a_script_without_its_interpreter_leaves_a_message(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "agent"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    ended = Run(folder, str(script)).run()
    assert (
        ended["message"] == f"Cannot start {script}: the interpreter that its first line names is not there."
    )


def test_an_argument_that_is_too_long_leaves_a_message(folder: Path) -> None:
    run = Run(folder, "/bin/echo", "x" * 3_000_000)
    assert "Argument list too long" in run.run()["message"]


def test_a_folder_that_is_gone_leaves_a_message(folder: Path) -> None:
    run = Run(folder, "/bin/echo", cwd="/no/such/folder")
    assert "The folder /no/such/folder is not there." in run.run()["message"]


def test_a_second_supervisor_refuses(folder: Path) -> None:
    run = sh(folder, "sleep 600").start()
    assert "supervised already" in run.launch().stderr
    run.stop()
    run.finish()
    assert run.launch().returncode == 1


def test_the_environment_is_what_it_was_given_and_on_no_disk(folder: Path) -> None:
    run = sh(folder, "echo $SECRET_WORD $HOME")
    run.start(SECRET_WORD="hidden-word")
    run.finish()
    assert run.contents() == ["hidden-word"]
    files = [path for path in folder.iterdir() if path.name != "log.jsonl"]
    assert not any(b"hidden-word" in path.read_bytes() for path in files)


def test_no_descriptor_leaks_into_the_child(folder: Path) -> None:
    run = sh(folder, "ls /proc/self/fd | wc -l")
    run.run()
    assert int(run.contents()[0]) == 4, "0, 1, 2 and the one ls itself reads"


def test_the_supervisor_told_to_end_ends_its_child(folder: Path) -> None:
    run = sh(folder, "sleep 600").start()
    os.kill(run.state()["pid"], signal.SIGTERM)
    ended = run.finish()
    assert ended["reason"] == "interrupted"
    assert "SIGTERM" in run.contents("system")[0]


def test_exit_record_is_whole_whenever_it_is_there(folder: Path) -> None:
    sh(folder, "exit 0").start()
    path = folder / "exit.json"
    wait_for(path.exists, "the end")
    assert json.loads(path.read_text())["exit_code"] == 0
