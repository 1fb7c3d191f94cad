"""Helpers for text."""


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    cleaned = "".join(letter if letter.isalnum() else " " for letter in text)
    return [word.lower() for word in cleaned.split()]
