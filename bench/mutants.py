"""What mutation testing changes in a file, one thing at a time. The changes are cosmic-ray's, which it needs."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one thing changed: its whole source, and the line that differs."""

    line: int
    change: str
    source: str
    is_in_function: bool


def mutants_of(source: str) -> list[Mutant]:
    """Every mutant of a source, but those that no test can notice."""
    lines, tree, inside = source.splitlines(), get_ast(source), _lines_in_functions(source)
    found = []
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or name.startswith("core/ReplaceBinaryOperator_BitOr_"):
            continue  # an | in these files joins types or sets; in an annotation nothing can notice it
        positions = [position for node in ast_nodes(tree) for position in operator().mutation_positions(node)]
        for occurrence, ((line, column), _) in enumerate(positions):
            if lines[line - 1].startswith("@dataclass") or lines[line - 1][column : column + 2] in ("*,", "**"):
                continue  # frozen and slots are for readers and type checkers, and so are keywords of a signature
            mutated = mutate_code(source, operator(), occurrence)
            changed = _first_difference(lines, mutated.splitlines())
            found.append(Mutant(line, f"{name.removeprefix('core/')}: {changed}", mutated, line in inside))
    return sorted(found, key=lambda mutant: mutant.line)


def _first_difference(before: Sequence[str], after: Sequence[str]) -> str:
    pairs = zip([*before, ""], [*after, ""], strict=False)
    return next((f"{old.strip()}  ->  {new.strip()}" for old, new in pairs if old != new), "the same")


def statement_at(source: str) -> Callable[[int], range]:
    """Gives the lines of the innermost statement at a line; of a block's, only its head."""
    heads = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else getattr(node, "end_lineno", None) or first
            heads.append(range(first, max(first, last) + 1))
    return lambda line: min((head for head in heads if line in head), key=len, default=range(line, line + 1))


def _lines_in_functions(source: str) -> set[int]:
    """The lines that run when a function is called, not when the file is imported."""
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for statement in node.body
        for line in range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    }
