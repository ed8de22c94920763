"""Standard output and error where they can't show Unicode: pictures in other marks, and no traceback."""

import codecs
import sys

_PLAIN = {
    # the marks of a picture, each as another character
    **dict(zip("◆▲━╌·✗┤…", "*^=-.x|.", strict=True)),
    # what models like to write
    **dict(zip("\u2018\u2019\u201c\u201d\u2013\u2014", "''\"\"--", strict=True)),
}


def speak_plainly() -> None:
    """Put something like it in place of a character that they can't show."""
    codecs.register_error("plain", _put_plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="plain")


def _put_plain(problem: UnicodeError) -> tuple[str, int]:
    assert isinstance(problem, UnicodeEncodeError)
    unknown = problem.object[problem.start : problem.end]
    return "".join(_PLAIN.get(character, "?") for character in unknown), problem.end
