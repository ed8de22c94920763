"""The final number of an answer, and whether it is the right one: GSM8K's exact match."""

import re
from decimal import Decimal

_NUMBER = re.compile(r"(?:(?<![\w).])-)?[$\u20ac\u00a3]?(\d[\d,]*(?:\.\d+)?|\.\d+)")
_MARK = "####"


def final_number(text: str) -> Decimal | None:
    """The first number after the last ####, else the last number of the text; None if there is none.

    Currency signs and thousands separators are ignored, and 18.00 is 18.
    """
    _, mark, tail = text.rpartition(_MARK)
    if mark and (found := _NUMBER.search(tail)):
        return _value(found)
    all_found = list(_NUMBER.finditer(text))
    return _value(all_found[-1]) if all_found else None


def is_right(answer: str, expected: str) -> bool:
    """Whether both end in the same number."""
    number = final_number(answer)
    return number is not None and number == final_number(expected)


def _value(found: re.Match[str]) -> Decimal:
    sign = -1 if found.group(0).startswith("-") else 1
    return sign * Decimal(found.group(1).replace(",", ""))
