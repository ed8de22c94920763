"""Mutation testing: `python -m bench.mutation core/policy.py` changes one thing at a time in a file, and runs the tests
that should notice. What survives is printed with its line. Needs cosmic-ray; works in a copy of the repository.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ENGINE = ("test_staircase", "test_reading", "test_failover", "test_failures", "test_thinking", "test_max_tokens")
WRAPPERS = (
    "tests/backends/test_permits.py",
    "tests/backends/test_wrappers.py",
    "tests/backends/test_orders.py",
    "tests/engine/test_prefetch.py",
    "tests/engine/test_ahead.py",
    "tests/engine/test_spent.py",
    "tests/engine/test_failures.py",
    "tests/faults/test_scripted.py",
)
RUNS = tuple(f"tests/engine/{name}.py" for name in ENGINE)
TESTS: Mapping[str, Sequence[str]] = {
    "core/policy.py": ("tests/core/test_policy.py", "tests/core/test_decisions.py", "tests/config/test_schema.py"),
    "core/decisions.py": ("tests/core/test_decisions.py", "tests/core/test_policy.py"),
    "engine/agent.py": RUNS,
    "engine/progress.py": RUNS,
    "engine/step.py": RUNS,
    "engine/writer.py": RUNS,
    "backends/wire.py": ("tests/backends/test_wire.py", "tests/backends/test_finish_reasons.py", "tests/upstreams"),
    "backends/continuation.py": ("tests/backends/test_continuation.py", "tests/backends/openai"),
    "backends/retry.py": WRAPPERS,
    "backends/hedge.py": WRAPPERS,
    "backends/limits.py": WRAPPERS,
    "server/access/budgets.py": ("tests/server/test_gate.py", "tests/server/test_keys.py"),
}
"""The tests of each file, the quickest to notice first."""


def mutate(file: str, timeout_s: float) -> list[tuple[str, int, str]]:
    """Every mutant of a file of `src/stairstream`: its outcome (killed, survived, ...), its line, and what it was."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "*_cache", ".hypothesis", "runs"))
        _write_config(copy, file, timeout_s)
        _cosmic_ray(copy, "cli", "init", "cr.toml", "cr.sqlite")
        _cosmic_ray(copy, "tools.filters.operators_filter", "cr.sqlite", "cr.toml")
        _cosmic_ray(copy, "cli", "exec", "cr.toml", "cr.sqlite")
        lines = _cosmic_ray(copy, "cli", "dump", "cr.sqlite").splitlines()
    dumped = [json.loads(line) for line in lines]
    return [_read(item, result) for item, result in dumped if result and result["worker_outcome"] != "skipped"]


def _write_config(copy: Path, file: str, timeout_s: float) -> None:
    pytest = f"{sys.executable} -m pytest -x -q -m 'not slow' -p no:cacheprovider --hypothesis-profile=mutants"
    command = f"env PYTHONPATH=src {pytest} {' '.join(TESTS[file])}"
    (copy / "cr.toml").write_text(
        f'[cosmic-ray]\nmodule-path = "src/stairstream/{file}"\ntimeout = {timeout_s}\n'
        f'excluded-modules = []\ntest-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
        # an | in these files joins types or sets; in an annotation nothing can notice it
        '[cosmic-ray.filters.operators-filter]\nexclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]\n'
    )


def _cosmic_ray(copy: Path, module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"cosmic_ray.{module}", *arguments]
    return subprocess.run(command, cwd=copy, stdout=subprocess.PIPE, text=True, check=True).stdout


def _read(item: dict[str, Any], result: dict[str, Any]) -> tuple[str, int, str]:
    """Of a work item and its result, as cosmic-ray dumps them."""
    (mutation,) = item["mutations"]
    return result["test_outcome"], mutation["start_pos"][0], mutation["operator_name"].removeprefix("core/")


def main() -> None:
    """Report on the files that are named, or on all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help=", ".join(TESTS))
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for the tests of one mutant")
    options = parser.parse_args()
    if unknown := set(options.files) - set(TESTS):
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}")
    for file in options.files or TESTS:
        found = mutate(file, options.timeout)
        source = (ROOT / "src" / "stairstream" / file).read_text().splitlines()
        killed = sum(outcome != "survived" for outcome, _, _ in found)
        print(f"{file}: {killed} of {len(found)} killed ({killed / max(1, len(found)):.0%})")
        for outcome, line, name in found:
            if outcome == "survived":
                print(f"  {line}: {name}: {source[line - 1].strip()}")


if __name__ == "__main__":
    main()
