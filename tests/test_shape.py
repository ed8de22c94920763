"""The shape of the source: no function and no class grows past what can be kept in mind."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "stairstream"
MOST_LINES = 50
"""Of a function, with its signature and docstring. No function is excepted."""
MOST_MUTABLE_FIELDS = 12
"""Of a class: fields that are assigned after it was made."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the source with its name."""
    for file in sorted(SOURCE.rglob("*.py")):
        yield str(file.relative_to(SOURCE)), ast.parse(file.read_text())


def methods(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of a class."""
    return [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]


def fields(node: ast.ClassDef) -> set[str]:
    """The fields that a class declares, or assigns when it is made."""
    declared = {
        one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    made = [one for one in methods(node) if one.name in ("__init__", "__post_init__")]
    return declared.union(*(assigned(one, "self") for one in made))


def is_frozen(node: ast.ClassDef) -> bool:
    """Whether it is declared as one whose fields can't be assigned."""
    keywords = [word for one in (*node.decorator_list, node) for word in getattr(one, "keywords", [])]
    return any(word.arg == "frozen" and ast.unparse(word.value) == "True" for word in keywords)


def assigned(node: ast.AST, owner: str | None = None) -> set[str]:
    """The attributes that are assigned in a part of the source: those of `owner`, or of anything but `self`."""
    return {
        one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store | ast.Del)
        if (isinstance(one.value, ast.Name) and one.value.id == owner)
        or (owner is None and not (isinstance(one.value, ast.Name) and one.value.id == "self"))
    }


def test_no_function_is_longer_than_a_screen() -> None:
    found = [
        f"{name}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for name, module in modules()
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > MOST_LINES
    ]
    assert found == []


def test_no_class_has_more_mutable_fields_than_can_be_followed() -> None:
    """Counted by name: also what another module assigns, as in `job.is_stopped = True`."""
    by_others = set().union(*(assigned(module) for _, module in modules()))
    found = []
    for name, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef) and not is_frozen(node):
                later = [one for one in methods(node) if one.name not in ("__init__", "__post_init__")]
                mutable = set().union(*(assigned(one, "self") for one in later)) | (fields(node) & by_others)
                if len(mutable) > MOST_MUTABLE_FIELDS:
                    found.append(f"{name}:{node.lineno} {node.name}: {len(mutable)}, {', '.join(sorted(mutable))}")
    assert found == []
