from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_slug

from tasks.models import Executor


class Command(BaseCommand):
    help = (
        "Adds or changes an executor: a program with its arguments, after --. {prompt} inside an argument stands "
        "for the prompt, which otherwise arrives on standard input."
    )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        usage = "%(prog)s [--env NAME]… [--format FORMAT] [--remove] NAME -- PROGRAM [ARG…]"
        parser = super().create_parser(prog_name, subcommand, usage=usage, **kwargs)
        parse = parser.parse_args

        def parse_before_program(args: Sequence[str], namespace: Any = None) -> Any:
            """What is behind `--` belongs to the program, also where it looks like an option of this command."""
            end = args.index("--") if "--" in args else len(args)
            parsed = parse(args[:end], namespace)
            parsed.argv = args[end + 1 :]
            return parsed

        parser.parse_args = parse_before_program  # type: ignore[assignment,method-assign]
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format",
            choices=Executor.OutputFormat.values,
            default=Executor.OutputFormat.TEXT,
            help="what it prints",
        )
        parser.add_argument(
            "--env",
            action="append",
            default=[],
            metavar="NAME",
            help="a variable of the server's environment that it may see",
        )
        parser.add_argument("--remove", action="store_true", help="remove it instead")
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        name, argv = options["name"], options["argv"]
        try:
            validate_slug(name)
        except ValidationError as error:
            raise CommandError(f"{name!r} is no name for an executor: {' '.join(error.messages)}") from None
        if options["remove"]:
            removed, _ = Executor.objects.filter(name=name).delete()
            self.stdout.write(f"Removed {name}." if removed else f"There is no executor {name}.")
            return
        if not argv or not argv[0]:
            raise CommandError("Give the program and its arguments after --.")
        values = {"argv": argv, "output_format": options["format"], "env": options["env"], "enabled": True}
        _, created = Executor.objects.update_or_create(name=name, defaults=values)
        self.stdout.write(f"{'Added' if created else 'Changed'} {name}.")
