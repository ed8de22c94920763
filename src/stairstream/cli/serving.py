"""The commands that serve: `serve`, `deploy`, `fake-server`. The options; the work is in files of their own."""

from pathlib import Path
from typing import Annotated

import typer

from stairstream.cli.options import ConfigOption, option


def add_serving(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("serve")(serve_command)
    app.command("deploy")(deploy_command)
    app.command("fake-server")(fake_server_command)


def serve_command(
    config: ConfigOption = None,
    port: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=0, max=65535, help="Where to listen; 0: a free port. 8080 without it."),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where to listen; beyond loopback only with keys.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Processes that serve on one socket; 1 without it.")
    ] = None,
) -> None:
    """Serve every pipeline as a model of an OpenAI-compatible server, until SIGTERM."""
    from stairstream.cli.serve import serve

    raise typer.Exit(serve(config, host, port, workers))


def deploy_command(
    config: ConfigOption = None,
    address: Annotated[
        str | None,
        option("URL", "Ray's REST interface; http://127.0.0.1:8265, or RAY_DASHBOARD_ADDRESS, without it."),
    ] = None,
    write: Annotated[
        Path | None,
        option("FOLDER", "Only write a config for `serve deploy`, and a RayService for Kubernetes, there."),
    ] = None,
) -> None:
    """Serve every pipeline from a Ray cluster: deploys the server and the engines, and waits until they run."""
    from stairstream.cli.deploy import deploy

    deploy(config, address, write)


def fake_server_command(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="A YAML file with `models`, each with the options below."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A model to serve; may be repeated.")] = None,
    first_token_s: Annotated[float | None, option("SECONDS", "From call to first token; 0.2 without it.")] = None,
    token_s: Annotated[float | None, option("SECONDS", "Per token; 0.02 without it.")] = None,
    tokens_per_s: Annotated[float | None, option("NUMBER", "Tokens per second, in place of --token-s.")] = None,
    length: Annotated[int | None, option("TOKENS", "How long an answer is; 300 without it.")] = None,
    prefill_tokens_per_s: Annotated[float | None, option("NUMBER", "Speed of reading; free without it.")] = None,
    continues: Annotated[
        str | None,
        option(
            "MODE",
            "How it continues an assistant message: flag (without this), prefill, prefix; "
            "reject answers 400; none ignores it and answers from the start.",
        ),
    ] = None,
    batch: Annotated[
        str | None, option("TOKENS", "Tokens in one chunk: 4, or drawn each time: 1-6. 1 without it.")
    ] = None,
    silent_every: Annotated[
        int | None, option("TOKENS", "Every token of that number comes without text: 5 means one in five.")
    ] = None,
    usage: Annotated[
        str | None,
        option("KIND", "Usage: exact (without this, in every chunk if asked), at_end, rounded (to tens), none."),
    ] = None,
    fault: Annotated[str | None, option("KIND", "What goes wrong: hang, cut, status_500, ...")] = None,
    after_tokens: Annotated[int | None, option("TOKENS", "Tokens of a call before its fault.")] = None,
    host: Annotated[str, typer.Option(metavar="NAME", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="NUMBER", min=0, max=65535, help="0: a free port.")] = 9100,
) -> None:
    """Serve scripted models as an OpenAI-compatible endpoint, for tests and measurements."""
    from stairstream.cli.fake_server import fake_server

    given = _given(
        first_token_s=first_token_s,
        token_s=token_s,
        tokens_per_s=tokens_per_s,
        length=length,
        prefill_tokens_per_s=prefill_tokens_per_s,
        continues=continues,
        batch=batch,
        silent_every=silent_every,
        usage=usage,
        fault=_given(kind=fault, after_tokens=after_tokens) or None,
    )
    fake_server(config, model or [], given, host, port)


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}
