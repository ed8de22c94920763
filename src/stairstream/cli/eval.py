"""The group `eval`: quality as a number. Each command parses here and does its work in a file of its own."""

import typer

eval_app = typer.Typer(
    name="eval",
    help="Quality as a number: what early speech costs.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@eval_app.callback(invoke_without_command=True)
def options(context: typer.Context) -> None:
    """Quality as a number: what early speech costs."""
    if context.invoked_subcommand is None:
        print(context.get_help())
