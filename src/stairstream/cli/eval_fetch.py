"""`stairstream eval fetch`: the data sets of evaluations, with their licences; a bar while one comes."""

from stairstream.cli.fetching import open_download_bar
from stairstream.cli.terminal import tell
from stairstream.config.reading import nearest
from stairstream.core.errors import ConfigError
from stairstream.eval.data import DATA_SETS, path_of
from stairstream.eval.fetching import fetch_data


def fetch(name: str) -> None:
    """Fetch one, and print its path. Raises what fetch_data raises, and ConfigError for an unknown name."""
    if name not in DATA_SETS:
        raise ConfigError(f"there is no data set {name!r}{nearest(name, DATA_SETS)}")
    data = DATA_SETS[name]
    tell(f"{data.name}: {data.what}; from {data.project}, licence: {data.licence}")
    if path_of(data).is_file():
        print(path_of(data))
        return
    with open_download_bar(name) as progress:
        path = fetch_data(data, progress)
    print(path)


def list_sets() -> None:
    """A line for each: its name, what it holds, its licence, and whether it is here."""
    for data in DATA_SETS.values():
        here = path_of(data) if path_of(data).is_file() else "not fetched"
        print(f"{data.name}: {data.what} ({data.licence}); {here}")
