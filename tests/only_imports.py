"""A contract for lint-imports that says what may be imported, so that nothing new has to be forbidden by name."""

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """Modules import the standard library, each other, and what is allowed; nothing else of ours or of anybody's.

    `source_modules` and `allowed_modules` are meant with all that is in them.
    """

    type_name = "only"

    source_modules = fields.ListField(subfield=fields.ModuleField())
    allowed_modules = fields.ListField(subfield=fields.ModuleField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Of every module, what it imports itself."""
        sources = [one.name for one in self.source_modules]  # type: ignore[attr-defined]
        allowed = [*sources, *(one.name for one in self.allowed_modules)]  # type: ignore[attr-defined]
        for name in (*sources, *allowed):
            if name not in graph.modules:
                raise ValueError(f"there is no module {name}")
        wrong = [
            f"{importer} -> {imported}"
            for importer in sorted(graph.modules)
            if _is_in(importer, sources)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not (_is_in(imported, allowed) or imported.partition(".")[0] in sys.stdlib_module_names)
        ]
        return ContractCheck(kept=not wrong, metadata={"wrong": wrong})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Each wrong import in a line."""
        for line in check.metadata["wrong"]:
            output.print_error(line)


def _is_in(module: str, packages: list[str]) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in packages)
