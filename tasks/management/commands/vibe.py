"""The board from a terminal or a script. It talks to the database and the files of runs directly, so it needs
no token and works while the server is down; the server's runner picks up what it queues."""

import signal
import sys
import time
from argparse import SUPPRESS
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from events.capture import actor
from tasks import actions, terminal
from tasks.actions import Record
from tasks.runs import runner

STATUSES = "todo, inprogress, inreview, done or cancelled"


class Command(BaseCommand):
    help = "Creates tasks, starts agents on them, follows their logs and shows their diffs."

    # They would load every page of the site, which takes longer than what most of these commands do.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        self._common(parser)
        parser.set_defaults(user=None, json=False)
        verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)

        def verb(name: str, run: Callable[..., int | None], about: str) -> CommandParser:
            added: CommandParser = verbs.add_parser(name, help=about, description=about)
            self._common(added)
            added.set_defaults(run=run)
            return added

        verb("projects", self.projects, "Lists the projects.")
        verb("executors", self.executors, "Lists the executors that may be started.")

        tasks = verb("tasks", self.tasks, "Lists tasks in the order of the board.")
        tasks.add_argument("--project", help="name or id")
        tasks.add_argument("--status", help=STATUSES)

        task = verb(
            "task", self.task_show, "Creates, changes or shows a task: task create, task edit, task show."
        )
        steps = task.add_subparsers(dest="step", metavar="create|edit|show", required=True)
        create = self._step(steps, "create", self.task_create, "Creates a task and prints its id.")
        create.add_argument("title")
        create.add_argument("--project", help="name or id; not needed while there is one project only")
        self._task_fields(create)
        edit = self._step(steps, "edit", self.task_edit, "Changes the given fields of a task.")
        edit.add_argument("task")
        edit.add_argument("--title")
        self._task_fields(edit)
        show = self._step(steps, "show", self.task_show, "Shows a task with its attempts and runs.")
        show.add_argument("task")

        start = verb("start", self.start, "Starts an executor on a task and prints the attempt's id.")
        start.add_argument("task")
        start.add_argument("--executor", default="demo", help="one of `vibe executors` (default: demo)")
        start.add_argument(
            "--prompt", help="instead of the task's title and description; - reads it from stdin"
        )
        start.add_argument("--target-branch", help="instead of the project's")
        self._follow(start)

        more = verb(
            "follow-up", self.follow_up, "Gives an attempt's agent the next prompt; prints the run's id."
        )
        more.add_argument("attempt")
        more.add_argument("prompt", help="- reads it from stdin")
        self._follow(more)

        logs = verb("logs", self.logs, "Prints the log of a run, or of all runs of an attempt.")
        logs.add_argument("id", help="of a run (execution process) or an attempt")
        logs.add_argument("--tail", type=int, metavar="N", help="only the last N lines of a run")
        self._follow(logs)

        diff = verb("diff", self.diff, "Prints what an attempt changed, as a patch.")
        diff.add_argument("attempt")
        diff.add_argument("--file", help="one file alone, whole even if it is large")
        diff.add_argument("--stat", action="store_true", help="counts of lines only")

        stop = verb("stop", self.stop, "Stops a run.")
        stop.add_argument("process", help="the id of a run (execution process)")

    def _step(self, steps: Any, name: str, run: Callable[..., int | None], about: str) -> CommandParser:
        step: CommandParser = steps.add_parser(name, help=about, description=about)
        self._common(step)
        step.set_defaults(run=run)
        return step

    @staticmethod
    def _common(parser: CommandParser) -> None:
        """Options that may stand before or after the verb: SUPPRESS keeps the later parser from resetting them."""
        parser.add_argument("--user", default=SUPPRESS, help="in whose name (default: the first superuser)")
        parser.add_argument("--json", action="store_true", default=SUPPRESS, help="one JSON record a line")

    @staticmethod
    def _task_fields(parser: CommandParser) -> None:
        parser.add_argument("--description", help="Markdown; - reads it from stdin")
        parser.add_argument("--status", help=STATUSES)
        parser.add_argument(
            "--label", action="append", dest="labels", metavar="LABEL", help="may be repeated"
        )

    @staticmethod
    def _follow(parser: CommandParser) -> None:
        parser.add_argument(
            "--follow", "-f", action="store_true",
            help="print the log until the run ends, and exit with its exit code",
        )  # fmt: skip

    def run_from_argv(self, argv: list[str]) -> None:
        signal.signal(
            signal.SIGPIPE, signal.SIG_DFL
        )  # `… | head` ends quietly, as it does for other programs
        super().run_from_argv(argv)

    def handle(self, *args: Any, run: Callable[..., int | None], user: str | None, **options: Any) -> None:
        person = _person(user)
        try:
            with actions.explained(CommandError), actor("command", person, f"{person.get_username()} (vibe)"):
                code = run(person, options)
        except KeyboardInterrupt:
            code = 130  # only the following ends; the run goes on
        if code:
            sys.exit(code)

    # What each verb does. They return the exit code, or None for success.

    def projects(self, user: User, options: dict[str, Any]) -> None:
        for project in actions.list_projects(user):
            self._show(project, terminal.project_line, options)

    def executors(self, user: User, options: dict[str, Any]) -> None:
        for name in actions.list_executors(user):
            self._show({"name": name}, lambda record: str(record["name"]), options)

    def tasks(self, user: User, options: dict[str, Any]) -> None:
        for task in actions.list_tasks(user, options["project"], options["status"]):
            self._show(task, terminal.task_line, options)

    def task_create(self, user: User, options: dict[str, Any]) -> None:
        project = options["project"] or _only_project(user)
        task = actions.create_task(user, project, _given(options, "title"))
        self._show(task, lambda record: str(record["id"]), options)

    def task_edit(self, user: User, options: dict[str, Any]) -> None:
        fields = _given(options, "title")
        if not fields:
            raise CommandError("Nothing to change: give --title, --description, --status or --label.")
        self._show(actions.change_task(user, options["task"], fields), terminal.task_line, options)

    def task_show(self, user: User, options: dict[str, Any]) -> None:
        task = actions.read_task(user, options["task"])
        self._show(task, lambda record: "\n".join(terminal.task_page(record)), options)

    def start(self, user: User, options: dict[str, Any]) -> int | None:
        prompt = _text(options["prompt"])
        attempt = actions.start_attempt(
            user, options["task"], options["executor"], prompt, options["target_branch"]
        )
        self._show(attempt, lambda record: str(record["id"]), options)
        self._warn_without_server()
        return self._follow_attempt(user, attempt["id"], options) if options["follow"] else None

    def follow_up(self, user: User, options: dict[str, Any]) -> int | None:
        prompt = _text(options["prompt"]) or ""
        process = actions.follow_up(user, options["attempt"], prompt)
        self._show(process, lambda record: str(record["id"]), options)
        self._warn_without_server()
        return self._follow_run(user, process["id"], options) if options["follow"] else None

    def logs(self, user: User, options: dict[str, Any]) -> int | None:
        if not _is_attempt(user, options["id"]):
            return self._follow_run(user, options["id"], options)
        if options["follow"]:
            return self._follow_attempt(user, options["id"], options)
        for run in actions.runs_of(user, options["id"]):
            self._follow_run(user, run["id"], options)
        return None

    def diff(self, user: User, options: dict[str, Any]) -> None:
        if not options["stat"] and not options["json"]:
            sys.stdout.buffer.write(actions.read_patch(user, options["attempt"], options["file"]))
            return
        for record in actions.read_diff(user, options["attempt"], options["file"]):
            self._show(record, terminal.diff_stat, options)

    def stop(self, user: User, options: dict[str, Any]) -> None:
        self._show(actions.stop(user, options["process"]), terminal.run_line, options)

    # Printing.

    def _show(self, record: Record, shape: Callable[[Record], str], options: dict[str, Any]) -> None:
        self.stdout.write(terminal.as_json(record) if options["json"] else shape(record))
        self.stdout.flush()

    def _follow_attempt(self, user: User, attempt_id: str, options: dict[str, Any]) -> int:
        """Prints each run of the attempt in turn, until none is left; the first bad exit code, or 0."""
        seen: set[str] = set()
        code = 0
        while True:
            waiting = [run for run in actions.runs_of(user, attempt_id) if run["id"] not in seen]
            waiting = [run for run in waiting if run["run_reason"] != "devserver"]
            if not waiting and seen:
                return code
            for run in waiting:
                seen.add(run["id"])
                code = code or self._follow_run(user, run["id"], options) or 0
            if not waiting:
                time.sleep(actions.POLL_SECONDS)

    def _follow_run(self, user: User, process_id: str, options: dict[str, Any]) -> int | None:
        """Prints the log of a run; with --follow until its end, and then returns its exit code."""
        if not options["follow"]:
            for step in _log_until_now(user, process_id, options.get("tail")):
                self._print_records(step["records"], options)
            return None
        for step in actions.follow_log(user, process_id, options.get("tail")):
            self._print_records(step["records"], options)
        return _exit_code(step)

    def _print_records(self, records: list[Record], options: dict[str, Any]) -> None:
        for record in records:
            if options["json"]:
                self.stdout.write(terminal.as_json(record))
                continue
            # A partial record's line goes on in the next one: a prompt that waits, a progress bar.
            ending = "" if record.get("partial") else "\n"
            if record["type"] == "stdout":
                self.stdout.write(record["content"], ending=ending)
            else:
                mark = "" if record["type"] == "stderr" else f"[{record['type']}] "
                self.stderr.write(mark + record["content"], style_func=str, ending=ending)
        self.stdout.flush()
        self.stderr.flush()

    def _warn_without_server(self) -> None:
        if not runner.is_running():
            self.stderr.write("No server runs on this data folder: the run waits until one is started.")


def _exit_code(run: Record) -> int:
    """A run's exit code as a shell would have it: 128 and the signal's number where a signal ended it."""
    code = run["exit_code"]
    if code is None:
        return 0 if run["status"] == "completed" else 1
    if code == 0 and run["status"] != "completed":
        return 1
    return code if code >= 0 else 128 - code


def _person(name: str | None) -> User:
    people = User.objects.filter(is_active=True)
    if name is not None:
        user = people.filter(username=name).first()
        if user is None:
            raise CommandError(f"There is no active user {name!r}.")
        return user
    user = people.filter(is_superuser=True).order_by("pk").first()
    if user is None:
        raise CommandError("There is no superuser yet: start the server once, or run createsuperuser.")
    return user


def _only_project(user: User) -> str:
    found = actions.list_projects(user)
    if len(found) != 1:
        names = ", ".join(str(project["name"]) for project in found)
        raise CommandError(f"Say which project with --project: {names or 'there is none yet'}.")
    return str(found[0]["id"])


def _given(options: dict[str, Any], *more: str) -> dict[str, Any]:
    """The fields of a task among the options that were given."""
    fields = {name: options[name] for name in (*more, "status", "labels") if options[name] is not None}
    description = _text(options["description"])
    return fields if description is None else {**fields, "description": description}


def _text(argument: str | None) -> str | None:
    return sys.stdin.read() if argument == "-" else argument


def _is_attempt(user: User, key: str) -> bool:
    from tasks.permissions import visible_attempts

    return visible_attempts(user).filter(pk=actions.uuid(key)).exists()


def _log_until_now(user: User, process_id: str, tail: int | None) -> Iterator[Record]:
    if tail is not None:
        yield next(iter(actions.follow_log(user, process_id, tail)))
        return
    step = actions.read_log(user, process_id)
    while step["records"]:
        yield step
        step = actions.read_log(user, process_id, step["cursor"])
