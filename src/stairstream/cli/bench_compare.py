"""`stairstream bench compare`: two measurements beside each other."""

from stairstream.cli.bench import CompareOptions
from stairstream.cli.eval_output import print_json, print_tables
from stairstream.measure.comparing import compare, table_of
from stairstream.measure.samples import read_samples


def compare_benches(options: CompareOptions) -> None:
    """Print the changes. Raises ConfigError for files that are none of `bench`."""
    changes = compare(read_samples(options.before), read_samples(options.after))
    if options.as_json:
        print_json(changes)
    else:
        print_tables([table_of(changes, str(options.before), str(options.after))])
