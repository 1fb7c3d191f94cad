from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    OK = 0
    NOTE = 1
    WARNING = 2
    PROBLEM = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: what is so, and what to do where that is not good."""

    check: str
    level: Level
    message: str
    advice: str = ""

    @property
    def label(self) -> str:
        return self.level.name.lower()

    def as_dict(self) -> dict[str, str]:
        return {"check": self.check, "level": self.label, "message": self.message, "advice": self.advice}


def worst(findings: Iterable[Finding]) -> Level:
    return max((finding.level for finding in findings), default=Level.OK)
