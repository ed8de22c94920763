"""Deliberate bugs, planted in the running code by changing a line of its source.

As a pytest plugin (`-p tests.prove.planting`) it plants the bug that the environment names, for all tests.
"""

import importlib
import inspect
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.prove.bugs import BUGS, Bug

VARIABLE = "PLANTED_BUG"


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The bug is in the code while in the block, wherever that was imported to."""
    module = importlib.import_module(bug.module)
    source = inspect.getsource(module)
    assert source.count(bug.old) == 1, f"{bug.name}: its line is {source.count(bug.old)} times in {bug.module}"
    changed = _codes(compile(source.replace(bug.old, bug.new), str(module.__file__), "exec"))
    functions = list(_functions(module))
    before = [(function, function.__code__) for function in functions]
    for function in functions:
        function.__code__ = changed[function.__qualname__]
    try:
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def _codes(code: CodeType) -> dict[str, CodeType]:
    """The code of every function of a module, those inside of others too, by its qualified name."""
    found: dict[str, CodeType] = {}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found[inner.co_qualname] = inner
            found |= _codes(inner)
    return found


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for value in vars(module).values():
        if getattr(value, "__module__", None) == module.__name__:
            yield from _functions_of(value, module)


def _functions_of(value: Any, module: ModuleType) -> Iterator[FunctionType]:
    if isinstance(value, type):
        for member in vars(value).values():
            yield from _functions_of(member, module)
    value = getattr(value, "fget", None) or getattr(value, "__func__", value)
    while (inner := getattr(value, "__wrapped__", None)) is not None:
        value = inner
    if isinstance(value, FunctionType) and value.__code__.co_filename == module.__file__:
        yield value


def pytest_configure(config: pytest.Config) -> None:
    if name := os.environ.get(VARIABLE):
        stack = ExitStack()
        stack.enter_context(planted(next(bug for bug in BUGS if bug.name == name)))
        config.add_cleanup(stack.close)
