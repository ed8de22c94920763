"""The database that `server.database` names: a file (SQLite), or the URL of a PostgreSQL."""

import re
from dataclasses import dataclass, field
from pathlib import Path

_SCHEME = re.compile(r"postgres(ql)?://", re.IGNORECASE)
_URL = re.compile(
    r"(?i:postgres(?:ql)?)://"
    r"(?:(?P<user>[^:@/?#\s]*)(?::(?P<password>[^:@/?#\s]*))?@)?"
    r"(?P<hosts>[^@/?#\s]*)(?:/(?P<name>[^@/?#\s]*))?(?:\?(?P<options>[^@#\s]*))?"
)
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with : / ? # @ in a password as %3A %2F %3F %23 %40"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """A PostgreSQL. `url` holds the password, and is never shown; `str()` is for logs and errors."""

    url: str = field(repr=False)
    shown: str

    def __str__(self) -> str:
        return self.shown


Database = Path | PostgresAddress


def read_database(text: str) -> Database:
    """The database of that text; ValueError, which does not quote it, for a URL that can't be read.

    A URL is read strictly: a part of a password must not be taken for a host, and be shown.
    """
    if not _SCHEME.match(text):
        return Path(text).expanduser()
    found = _URL.fullmatch(text)
    if found is None:
        raise ValueError(f"must be a file, or as in {_FORM}")
    user = f"{found['user']}@" if found["user"] else ""
    return PostgresAddress(url=text, shown=f"postgresql://{user}{found['hosts']}/{found['name'] or ''}")
