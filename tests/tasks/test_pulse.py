import pytest

from tasks.pulse import plain


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
