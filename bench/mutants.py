"""What mutation testing changes in a file, one thing at a time. The changes are cosmic-ray's, which it needs."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names


@dataclass(frozen=True, slots=True)
class Place:
    """Where one of cosmic-ray's operators can change something: its line, and which of the operator's places it is."""

    line: int
    is_in_function: bool
    operator: str
    occurrence: int


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one thing changed: its whole source, and how the line differs."""

    place: Place
    change: str
    source: str


def places_of(source: str) -> list[Place]:
    """Every place of a source, but those where no test can notice a change."""
    lines, tree, inside = source.splitlines(), get_ast(source), _lines_in_functions(source)
    found = []
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or name.startswith("core/ReplaceBinaryOperator_BitOr_"):
            continue  # an | in these files joins types or sets; in an annotation nothing can notice it
        positions = [position for node in ast_nodes(tree) for position in operator().mutation_positions(node)]
        for occurrence, ((line, column), _) in enumerate(positions):
            before, after = lines[line - 1][:column].rstrip(), lines[line - 1][column:]
            is_star = after.startswith("*") and (not before or before.endswith(("(", ",")))
            if not is_star and not lines[line - 1].startswith("@dataclass"):  # both are for readers and type checkers
                found.append(Place(line, line in inside, name, occurrence))
    return sorted(found, key=lambda place: place.line)


def mutant_at(source: str, place: Place) -> Mutant:
    mutated = mutate_code(source, get_operator(place.operator)(), place.occurrence)
    changed = _first_difference(source.splitlines(), mutated.splitlines())
    return Mutant(place, f"{place.line}: {place.operator.removeprefix('core/')}: {changed}", mutated)


def _first_difference(before: Sequence[str], after: Sequence[str]) -> str:
    pairs = zip([*before, ""], [*after, ""], strict=False)
    return next((f"{old.strip()}  ->  {new.strip()}" for old, new in pairs if old != new), "the same")


def statement_at(source: str) -> Callable[[int], int]:
    """Gives the first line of the innermost statement at a line."""
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    ranges = [range(one.lineno, (one.end_lineno or one.lineno) + 1) for one in statements]
    return lambda line: min((lines for lines in ranges if line in lines), key=len, default=[line])[0]


def marked(source: str) -> ast.Module:
    """The source, with a call of `__reached__` before each statement that gives its line."""
    tree = ast.parse(source)
    for node in list(ast.walk(tree)):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and not isinstance(node, ast.Module | ast.ClassDef):
                setattr(node, name, [one for statement in block for one in (_mark(statement), statement)])
    return ast.fix_missing_locations(tree)


def _mark(statement: ast.stmt) -> ast.stmt:
    (mark,) = ast.parse(f"__reached__({statement.lineno})").body
    for node in ast.walk(mark):
        ast.copy_location(node, statement)
    return mark


def _lines_in_functions(source: str) -> set[int]:
    """The lines that run when a function is called, not when the file is imported."""
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    }
