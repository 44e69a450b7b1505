"""What `script/hubfest` finds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong, with the file (and line) where it is to be put right."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"
