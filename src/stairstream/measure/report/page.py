"""The report as one HTML page without any other file: no script, no address, and every text escaped."""

from collections.abc import Mapping, Sequence
from html import escape

from stairstream.eval.tables import Table
from stairstream.measure.report.pictures import colour, draw_distribution, draw_frontier, draw_timeline, typical
from stairstream.measure.samples import Sample
from stairstream.measure.statistics import Row

_SHOWN_CHARACTERS = 600

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --dim: #57606a; --back: #fff; --line: #d8dee4; --other: #8c959f;
  --c0: #6e7781; --c1: #bc4c00; --c2: #0969da; --c3: #1a7f37; --c4: #8250df; --c5: #bf3989; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9198a1; --back: #0d1117; --line: #30363d;
  --other: #6e7681; --c0: #9198a1; --c1: #f0883e; --c2: #58a6ff; --c3: #3fb950; --c4: #bc8cff; --c5: #f778ba; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 60rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--back); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin-bottom: .2rem; }
p, dd, dt, li { color: var(--dim); } dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; border-left: 3px solid var(--line);
  padding-left: .8rem; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--dim); }
svg text.answer { fill: var(--ink); font-weight: 600; } .grid { stroke: var(--line); }
.curve { fill: none; stroke-width: 2; } .update { stroke: var(--ink); stroke-width: 1.2; }
.fill.other { fill: var(--other); }
.key { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem; border-radius: 2px; }
""" + "".join(
    f".curve.c{one} {{ stroke: var(--c{one}); }} .mark.c{one}, .fill.c{one} {{ fill: var(--c{one}); }} "
    f".key.c{one} {{ background: var(--c{one}); }}\n"
    for one in range(6)
)


def make_page(
    title: str, facts: Mapping[str, str], tables: Sequence[Table], rows: Sequence[Row], samples: Sequence[Sample]
) -> str:
    """The whole page; `facts` say how it was measured."""
    shown = typical(samples)
    names = list(dict.fromkeys(one.system for one in samples))
    until_s = max((one.total_s for one in shown), default=1.0)
    parts = [
        f"<h1>{escape(title)}</h1>",
        "<dl>" + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items()) + "</dl>",
        *(_table(one) for one in tables),
        "<h2>Time to first token</h2>" + _key(names) + draw_distribution(samples),
        "<h2>First token against total</h2>" + draw_frontier(rows),
        "<h2>When the agents wrote</h2><p>Of each system the run with the median time to first token, all on one "
        "scale; the first lane is the answer, an upright mark an update.</p>",
        *(_run(one, until_s, names.index(one.system)) for one in shown),
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _table(table: Table) -> str:
    heads = "".join(f"<th>{escape(one)}</th>" for one in table.heads)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f'<h2>{escape(table.title)}</h2><div class="wide"><table><tr>{heads}</tr>{rows}</table></div><ul>{notes}</ul>'
    )


def _key(names: Sequence[str]) -> str:
    keys = (f'<span class="key {colour(number)}"></span>{escape(name)}' for number, name in enumerate(names))
    return f"<p>{''.join(keys)}</p>"


def _run(sample: Sample, until_s: float, number: int) -> str:
    text = sample.text[:_SHOWN_CHARACTERS] + ("…" if len(sample.text) > _SHOWN_CHARACTERS else "")
    return (
        f"<h3>{escape(sample.system)}</h3>{draw_timeline(sample, until_s, number)}"
        f"<details><summary>its answer to {escape(sample.question)}</summary><pre>{escape(text)}</pre></details>"
    )
