"""Puts what a training run did into docs/training.md: retention before and after, and the curve of its loss.

stairstream train examples/train_aggregator.yaml
stairstream eval retention --data RUN/held_out.jsonl --limit 60 ... --out BEFORE
stairstream eval retention --data RUN/held_out.jsonl --limit 60 ... --model RUN/model --out AFTER
python -m bench.training --run RUN --before BEFORE --after AFTER
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.arguments import arguments
from bench.retention import renew

PAGE = Path(__file__).parent.parent / "docs" / "training.md"
PICTURE = PAGE.parent / "images" / "training.svg"
_SMOOTHED_STEPS = 8


def table_of(before: Path, after: Path) -> str:
    """Rows of both reports beside each other: the same prompts, the same setups."""
    lines = [
        "| policy | layout | NLL before | NLL after | retention before | retention after | first token, of wait |",
        "|---|---|---|---|---|---|---|",
    ]
    for old, new in zip(read_rows(before), read_rows(after), strict=True):
        assert (old["policy"], old["layout"], old["num_prompts"]) == (new["policy"], new["layout"], new["num_prompts"])
        cells = (
            old["policy"],
            old["layout"] or "-",
            f"{old['nll']:.4f}",
            f"{new['nll']:.4f}",
            say_retention(old),
            say_retention(new),
            f"{new['first_token_share']:.1%}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a report."""
    found: list[dict[str, Any]] = json.loads((folder / "retention.json").read_text())["rows"]
    return found


def say_retention(row: dict[str, Any]) -> str:
    """The number with its interval."""
    if row["retention"] is None:
        return "-"
    interval = row["interval"]
    return f"{row['retention']:.3f}" + (f" [{interval['low']:.3f}, {interval['high']:.3f}]" if interval else "")


def draw(run: Path, file: Path) -> None:
    """The loss over the train steps, and its mean over the last few of the same stage."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    settings: Any = {
        "svg.hashsalt": "stairstream",
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(6.4, 3), layout="constrained")
        first = 0
        for stage in dict.fromkeys(one["stage"] for one in metrics):
            losses = [one["loss"] for one in metrics if one["stage"] == stage and not one["is_skipped"]]
            steps = range(first, first + len(losses))
            line = axes.plot(steps, smooth(losses), label=stage)[0]
            axes.plot(steps, losses, ".", color=line.get_color(), alpha=0.3, markersize=3)
            first += len(losses)
        axes.set_xlabel("train step")
        axes.set_ylabel("loss, nats per learned token")
        axes.legend(frameon=False)
        figure.savefig(file, metadata={"Date": None})
        pyplot.close(figure)


def smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, as far as they count."""
    spans = [values[max(0, end - _SMOOTHED_STEPS) : end] for end in range(1, len(values) + 1)]
    return [sum(span) / len(span) for span in spans]


def main() -> None:
    """Write table and picture."""
    parser = arguments(__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, required=True)
    args = parser.parse_args()
    PAGE.write_text(renew(PAGE.read_text(), "trained", table_of(args.before, args.after)))
    PICTURE.parent.mkdir(exist_ok=True)
    draw(args.run, PICTURE)


if __name__ == "__main__":
    main()
