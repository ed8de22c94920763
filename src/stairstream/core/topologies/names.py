"""Names of agents: after their models, with a number where one model has several agents."""

from collections.abc import Sequence


def number(models: Sequence[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """A name for each model, in order; p1.1, p1.2 where one is listed more than once or its own name is taken."""
    seen: dict[str, int] = {}
    names = []
    for model in models:
        seen[model] = seen.get(model, 0) + 1
        needs_number = models.count(model) > 1 or model in taken
        names.append(f"{model}.{seen[model]}" if needs_number else model)
    return tuple(names)


def free_name(name: str, taken: set[str]) -> str:
    """The name, or the first of name-2, name-3... that is free."""
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}-{count}"
    return free
