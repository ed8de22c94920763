"""Mutation testing: `python -m bench.mutation core/policy.py` changes one thing at a time in a file, and runs the tests
that should notice. What survives is printed with its line. Needs cosmic-ray.

Nothing is written, and hardly anything imported twice: each change is tested in a process forked for it, by the tests
that reach its line, the quickest first. Inside a function only the function's code is replaced there; for what runs
when the file is imported, the tests are imported anew.
"""

import builtins
import contextlib
import gc
import importlib.util
import json
import math
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import accumulate
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TextIO

import pytest

from bench.arguments import arguments, one_or_more, positive, zero_or_more
from bench.mutants import Mutant, marked, mutant_at, places_of, statement_at

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "stairstream"
MEMORY_BYTES = 8 << 30
"""For the tests of a mutant: one may append to a list for ever."""

OF_DECISIONS = ("decisions", "worth", "all_decisions", "policy")
OF_RUNS = ("step", "staircase", "reading", "failover", "failures", "thinking", "max_tokens", "silence", "spent")
OF_ENDS = ("empty_answers", "corners", "asked", "stop_strings", "standstill", "own_ends", "degraded", "foreign_errors")
OF_OTHER_RUNS = ("batches", "slow_readers", "prefetch", "ahead", "takeover", "warming")
ENGINE = tuple(f"tests/engine/test_{name}.py" for name in (*OF_RUNS, *OF_ENDS, *OF_OTHER_RUNS))
OF_ANSWERS = ("wire", "events", "bodies", "counts", "finish_reasons", "forms", "reasoning", "surrogates", "tool_calls")
ANSWERS = tuple(f"tests/backends/test_{name}.py" for name in OF_ANSWERS)
WRAPPERS = (
    "tests/backends/test_permits.py",
    "tests/backends/test_hedge.py",
    "tests/backends/test_limits.py",
    "tests/backends/test_retry.py",
    "tests/backends/test_orders.py",
    "tests/engine/test_prefetch.py",
    "tests/engine/test_ahead.py",
    "tests/engine/test_spent.py",
    "tests/engine/test_failures.py",
    "tests/engine/test_foreign_errors.py",
    "tests/faults/test_scripted.py",
)
TESTS: Mapping[str, Sequence[str]] = {
    "core/policy.py": ("tests/core/test_policy.py", "tests/test_policies_page.py"),
    "core/decisions.py": tuple(f"tests/core/test_{name}.py" for name in OF_DECISIONS),
    "engine/agent.py": ENGINE,
    "engine/progress.py": ENGINE,
    "engine/step.py": ENGINE,
    "engine/writer.py": ENGINE,
    "backends/wire.py": ANSWERS,
    "backends/continuation.py": ("tests/backends/test_continuation.py",),
    "backends/retry.py": WRAPPERS,
    "backends/hedge.py": WRAPPERS,
    "backends/limits.py": WRAPPERS,
    "server/access/budgets.py": ("tests/server/test_ledger.py", "tests/server/test_gate.py"),
}
"""The tests of each file."""


# Tests, each time in a process forked for it


def in_fork(work: Callable[[], object], cpu_s: float, wall_s: float) -> Any:
    """What the work gives, as JSON; None if its process ends, or is ended, before."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(
            resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + cpu_s) + 1, resource.RLIM_INFINITY)
        )
        try:
            with open(writing, "w") as out:
                json.dump(work(), out)
        finally:
            os._exit(0)
    os.close(writing)
    ended, text = time.monotonic() + wall_s, b""
    while select.select([reading], [], [], max(0.0, ended - time.monotonic()))[0] and (
        more := os.read(reading, 1 << 16)
    ):
        text += more
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return json.loads(text) if text else None


def run_pytest(tests: Sequence[str], plugin: object | None, *options: str) -> int:
    """Its exit code; nothing is printed."""
    sys.dont_write_bytecode = True
    usual = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--hypothesis-profile=mutants"]
    kept, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    with tempfile.TemporaryDirectory() as folder:
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        code = pytest.main([*usual, *options, f"--basetemp={folder}/tests", *tests], plugins=[plugin] if plugin else [])
    for stream, was in zip((1, 2), kept, strict=True):
        os.dup2(was, stream)
        os.close(was)
    os.close(nowhere)
    return int(code)


def warm_up(tests: Sequence[str]) -> None:
    """Import what the tests import, and forget what is ours: each fork has the rest."""
    run_pytest(tests, None, "--collect-only")
    for name in [name for name in sys.modules if name.split(".")[0] in ("stairstream", "tests")]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()  # pytest collects garbage several times before it is over


class Session:
    """A plugin of pytest that runs the tests that it has collected again and again: once as they are, then for every
    mutant of a function, whose code is replaced in a fork. Of the other mutants it says which tests to run."""

    def __init__(self, file: str, source: str, mutants: Sequence[Mutant], most_s: float, out: TextIO) -> None:
        self._path = str(SOURCES / file)
        self._source = source
        self._statement = statement_at(source)
        self._mutants = mutants
        self._most_s = most_s
        self._out = out
        self._items: dict[str, pytest.Item] = {}
        self._has_failed = False
        self.num_killed = 0
        self.left: list[tuple[int, list[str], float]] = []
        """The mutants that are no function's: the index of each, its tests, and their seconds."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._has_failed = self._has_failed or report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        measured = in_fork(self._measure, 600, 600)
        if measured is None:
            sys.exit(2)
        for index, mutant in enumerate(self._mutants):
            line, is_in_function = self._statement(mutant.place.line), mutant.place.is_in_function
            runs = [(test, seconds) for test, seconds, lines in measured if line in lines or not is_in_function]
            totals = accumulate(seconds for _, seconds in runs)
            runs = [run for run, total in zip(runs, totals, strict=True) if total < self._most_s]
            tests, seconds = [test for test, _ in runs], sum(seconds for _, seconds in runs)
            replaced = self._replaced(mutant)
            if replaced is None:
                self.left.append((index, tests, seconds))
            elif tests and in_fork(partial(self._survives, replaced, tests), *limits_s(seconds)) is not True:
                self.num_killed += 1
            else:
                print(
                    f"  {mutant.change}{'' if tests else '  (not reached)'}",
                    file=self._out,
                    flush=True,
                )
        return True

    def _measure(self) -> object:
        """Each test's seconds and lines, the quickest first; nothing if one fails."""
        reached, lines = list[tuple[str, float, list[int]]](), set[int]()
        vars(builtins)["__reached__"] = lines.add
        for function, code in self._changed(compile(marked(self._source), self._path, "exec")):
            function.__code__ = code
        for name, item in self._items.items():
            lines.clear()
            began_s = time.perf_counter()
            self._run(item)
            reached.append((name, time.perf_counter() - began_s, sorted(lines)))
        return None if self._has_failed else sorted(reached, key=lambda one: one[1])

    def _run(self, item: pytest.Item) -> None:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)

    def _replaced(self, mutant: Mutant) -> "list[tuple[FunctionType, CodeType]] | None":
        """The functions whose code the mutant changes, with their new code; None if it is no function's."""
        if not mutant.place.is_in_function:
            return None
        try:
            changed = self._changed(compile(mutant.source, self._path, "exec"))
        except SyntaxError:
            return None
        are_alike = all(one.__code__.co_freevars == code.co_freevars for one, code in changed)
        return changed if changed and are_alike else None

    def _changed(self, module: CodeType) -> "list[tuple[FunctionType, CodeType]]":
        """The functions of the file, as they are in memory, that have other code in this module."""
        codes = dict(_codes_in(module))
        functions = [one for one in gc.get_objects() if isinstance(one, FunctionType)]
        ours = [one for one in functions if one.__code__.co_filename == self._path]
        pairs = [(one, codes.get(_key_of(one.__code__), one.__code__)) for one in ours]
        return [(one, code) for one, code in pairs if code != one.__code__]

    def _survives(self, replaced: "list[tuple[FunctionType, CodeType]]", tests: Sequence[str]) -> bool:
        for function, code in replaced:
            function.__code__ = code
        for test in tests:
            self._run(self._items[test])
            if self._has_failed:
                return False
        return True


def limits_s(seconds: float) -> tuple[float, float]:
    """CPU and wall time for tests that took so long."""
    return 2 + 3 * seconds, 60 + 20 * seconds


def _key_of(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes_in(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield _key_of(constant), constant
            yield from _codes_in(constant)


class _Chosen:
    """A plugin of pytest: only these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._order = {test: index for index, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((one for one in items if one.nodeid in self._order), key=lambda one: self._order[one.nodeid])


class _Instead(SourceFileLoader):
    """Finds and loads a changed source instead of the file's own."""

    def __init__(self, file: str, source: str) -> None:
        super().__init__(f"stairstream.{file.removesuffix('.py').replace('/', '.')}", str(SOURCES / file))
        self._source = source

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec")


# Reports


def report(file: str, sample: int | None, lines: set[int], seed: int, most_s: float) -> None:
    """Print how many mutants of a file are killed, and which are not."""
    source = (SOURCES / file).read_text()
    places = [place for place in places_of(source) if not lines or place.line in lines]
    if sample is not None and sample < len(places):
        places = [places[index] for index in sorted(random.Random(seed).sample(range(len(places)), sample))]
    mutants = [mutant_at(source, place) for place in places]
    warm_up(TESTS[file])
    ran = in_fork(partial(_run_session, file, source, mutants, most_s), *[6 * 3600] * 2)
    if ran is None:
        sys.exit(f"{file}: its tests fail without a change")
    num_killed, left = ran
    for index, tests, seconds in left:
        if in_fork(partial(_fails_anew, file, mutants[index], tests), *limits_s(5 + seconds)) is not False:
            num_killed += 1
        else:
            print(f"  {mutants[index].change}", flush=True)
    print(f"{file}: {num_killed} of {len(mutants)} killed ({num_killed / max(1, len(mutants)):.0%})", flush=True)


def _run_session(file: str, source: str, mutants: Sequence[Mutant], most_s: float) -> object:
    session = Session(file, source, mutants, most_s, os.fdopen(os.dup(1), "w"))
    return None if run_pytest(TESTS[file], session) else (session.num_killed, session.left)


def _fails_anew(file: str, mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether one of these tests fails where the changed source is imported."""
    sys.meta_path.insert(0, _Instead(file, mutant.source))
    return run_pytest(list(dict.fromkeys(test.split("::")[0] for test in tests)), _Chosen(tests)) != 0


def main() -> None:
    """Report on the files that are named, or on all."""
    parser = arguments(__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help=", ".join(TESTS))
    parser.add_argument("--sample", type=one_or_more, metavar="N", help="only N mutants of each file, drawn by --seed")
    parser.add_argument("--seed", type=zero_or_more, default=0)
    parser.add_argument(
        "--lines", type=one_or_more, nargs="+", default=[], metavar="LINE", help="mutants of these alone"
    )
    parser.add_argument("--seconds", type=positive, default=math.inf, help="the quickest tests, up to so much time")
    options = parser.parse_args()
    if unknown := set(options.files) - set(TESTS):
        parser.error(f"no tests are named for {', '.join(sorted(unknown))}")
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    os.chdir(ROOT)
    for file in options.files or TESTS:
        report(file, options.sample, set(options.lines), options.seed, options.seconds)


if __name__ == "__main__":
    main()
