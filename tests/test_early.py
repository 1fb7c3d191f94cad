"""The suite itself: what it starts finds the data that it uses."""

import os

from django.conf import settings


def test_the_settings_are_those_of_this_process() -> None:
    assert os.environ["VIBE_DATA"] == str(settings.VIBE_DATA)
    assert "vibe-tests-" in str(settings.VIBE_DATA)
