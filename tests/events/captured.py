"""What a test of capture is told: the rows, and how to name them."""

from collections.abc import Callable

from django.test.utils import CaptureQueriesContext

from events.models import DatabaseChange

Written = Callable[[], list[DatabaseChange]]


def described(rows: list[DatabaseChange]) -> list[tuple[str, str]]:
    return [(row.operation, row.path) for row in rows]


def kinds(queries: CaptureQueriesContext) -> list[str]:
    """The first words of the statements, but for those of transactions and their turns."""
    sqls = [query["sql"].split("times: ")[-1] for query in queries if "advisory" not in query["sql"]]
    return [sql.split()[0] for sql in sqls if sql.split()[0] not in ("BEGIN", "COMMIT")]
