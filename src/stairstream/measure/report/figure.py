"""The same two pictures as one PNG. Needs matplotlib (extra `eval`)."""

from collections.abc import Sequence
from pathlib import Path

from stairstream.measure.samples import Sample
from stairstream.measure.statistics import Row


def draw_png(samples: Sequence[Sample], rows: Sequence[Row], file: Path) -> bool:
    """Writes the picture; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for row in rows:
        times = sorted(
            one.first_token_s for one in samples if one.system == row.system and one.first_token_s is not None
        )
        if times and row.first_token:
            left.ecdf(times, label=row.system)
            right.scatter(row.first_token[0].value, row.total[0].value)
            right.annotate(row.system, (row.first_token[0].value, row.total[0].value), fontsize=8)
    right.margins(0.2)  # room for the names
    left.set(xlabel="seconds to the first token", ylabel="share of runs", xlim=(0, None))
    if any(row.first_token for row in rows):
        left.legend(fontsize=8)
    right.set(xlabel="seconds to the first token (p50)", ylabel="seconds to the end (p50)", xlim=(0, None))
    right.set_ylim(0, None)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
    return True
