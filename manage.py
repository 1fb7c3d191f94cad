#!/usr/bin/env python
"""The command line of the project: `python manage.py help` lists what it can do."""

import os
import re
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "vibe.settings")
    if os.environ.get("NO_COLOR"):  # no-color.org, which Django does not know
        os.environ.setdefault("DJANGO_COLORS", "nocolor")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, ProgrammingError, connection

    from vibe.environment import BadSetting

    try:
        # What Python could not decode: no database and no page takes it.
        "\0".join(sys.argv).encode()
    except UnicodeEncodeError:
        sys.exit(f"An argument is not UTF-8: {' '.join(sys.argv[1:])!r}")
    try:
        execute_from_command_line(sys.argv)
    except KeyboardInterrupt:
        sys.exit(130)
    except BadSetting as error:
        sys.exit(str(error))
    except (OperationalError, ProgrammingError) as error:
        # As SQLite says it, and PostgreSQL.
        if not re.search(r"no such table|relation .* does not exist", str(error)):
            try:
                connection.ensure_connection()
            except OperationalError:
                sys.exit(f"The database cannot be reached: {error}")
            raise
        sys.exit(
            f"The database has not all its tables ({error}). Run `python manage.py migrate`, or `make run`."
        )


if __name__ == "__main__":
    main()
