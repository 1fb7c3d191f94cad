import pytest

from tasks.board.pulse import Counts, counts, plain
from tasks.models import TaskAttempt
from tests.tasks.attempts import folder


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;32mgreen\x1b[0m ok", "green ok"),
        ("10%\r50%\r\x1b[2K100%", "100%"),
        ("done\r", "done"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x07", "link"),
        ("tab\tstays, bell\x07 goes", "tab\tstays, bell goes"),
        ("   ", ""),
    ],
)
def test_a_line_is_shown_as_a_terminal_leaves_it(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_counts_are_kept_for_a_while_but_not_past_the_end_of_a_run(attempt: TaskAttempt) -> None:
    assert counts(attempt, "running") == Counts()
    (folder(attempt) / "new").write_text("a line\n")
    assert counts(attempt, "ended") == Counts(additions=1)
