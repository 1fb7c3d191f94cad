"""The suite itself: what it starts finds the data that it uses."""

import os
from pathlib import Path

from django.conf import settings

from tests.conftest import FIRST, TESTS


def test_all_data_lies_in_the_folder_that_is_removed(tmp_path: Path) -> None:
    assert str(tmp_path).startswith(os.environ["VIBE_TESTS"] + "/")


def test_the_settings_are_those_of_this_process() -> None:
    assert os.environ["VIBE_DATA"] == str(settings.VIBE_DATA)
    assert str(settings.VIBE_DATA).startswith(os.environ["VIBE_TESTS"] + "/")


def test_the_modules_that_are_begun_first_are_there() -> None:
    assert [name for name in FIRST if not (TESTS / name).is_file()] == []
