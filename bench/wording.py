"""Words that go with numbers in messages; a leaf that imports nothing."""

from __future__ import annotations

#: The verbs of messages: the form for many -> the form for one.
_FOR_ONE = {"are": "is", "have": "has"}


def format_count(count: int, noun: str, verb: str = "") -> str:
    """Write a number with its noun, and with the verb that follows, in the form that goes with it.

    Examples:
        >>> format_count(1, "cell"), format_count(1200, "cell")
        ('1 cell', '1,200 cells')
        >>> format_count(1, "zip", "are"), format_count(2, "zip", "are")
        ('1 zip is', '2 zips are')
    """
    words = [f"{count:,}", noun if count == 1 else f"{noun}s"]
    return " ".join([*words, _FOR_ONE[verb] if count == 1 else verb] if verb else words)
