"""The number of files (sockets are files) that this process may have open at once."""

from stairstream.core.errors import ConfigError

_OTHERS = 64
"""The files that a process has open besides those that it was asked for."""


def check_open_files(needed: int, what: str) -> None:
    """See that `needed` more files can be open at once, raising our own limit as far as the system lets us.

    Raises ConfigError that names `what` needs them. Systems without such limits pass.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    needed += _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard == resource.RLIM_INFINITY or hard >= needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        except (ValueError, OSError):  # some systems have a further limit below the hard one
            pass
        else:
            return
    raise ConfigError(
        f"{what} needs {needed} open files, and this process may have {soft}; first run: ulimit -n {needed}"
    )
