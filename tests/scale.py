"""How large the heavy tests run: quick in every `make test`, full under `make soak`."""

import os

SOAK = os.environ.get("VIBE_SOAK") == "1"


def scaled(full: int, quick: int) -> int:
    return full if SOAK else quick
