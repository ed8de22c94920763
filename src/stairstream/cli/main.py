"""The command line: parses, calls, and turns every error of ours into one line and an exit code."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.exceptions import Abort, TyperException

from stairstream import __version__
from stairstream.__main__ import INTERRUPTED
from stairstream.backends.models import DEFAULT_MODEL
from stairstream.cli.bench import bench_app
from stairstream.cli.database import database_app
from stairstream.cli.eval import eval_app
from stairstream.cli.keys import keys_app
from stairstream.cli.options import (
    ConfigOption,
    KeyFileOption,
    PaceOption,
    PipelineOption,
    PolicyOption,
    SetOption,
    SystemOption,
    option,
)
from stairstream.cli.prediction import add_prediction
from stairstream.cli.serving import add_serving
from stairstream.cli.standard import OutputFailed, Streams, check_arguments
from stairstream.core.errors import ConfigError, GraphError, MissingExtra, RequestError, StairstreamError

PROMISE = "Several language models answer together, and the answer starts long before they have all answered."

app = typer.Typer(
    name="stairstream",
    help=PROMISE,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(eval_app)
app.add_typer(keys_app)
app.add_typer(database_app)
app.add_typer(bench_app)

DEMO_QUESTION = "Why is the sky blue?"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. 2: the user's fault, 1: the world's, 130: interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams = Streams()
    try:
        code = _run(arguments)
        if code == INTERRUPTED:
            print("stairstream: interrupted", file=sys.stderr)
        return streams.finish(code)
    except OutputFailed as exc:
        streams.give_up_output()
        _complain(str(exc))
        return 1


def _run(arguments: list[str]) -> int:
    try:
        check_arguments(arguments)
        code = typer.main.get_command(app).main(arguments or ["--help"], prog_name="stairstream", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except OutputFailed:
        raise
    except StairstreamError as exc:
        _complain(str(exc))
        is_users_fault = isinstance(exc, ConfigError | GraphError | RequestError | MissingExtra)
        return 2 if is_users_fault else 1
    except TyperException as exc:
        message = exc.format_message()
        _complain(message + _hint(message, arguments))
        return 2
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED


def _hint(message: str, arguments: list[str]) -> str:
    """The way to ask a question that looks like an option."""
    asks = arguments[:1] in (["ask"], ["demo"])
    return "; put -- before a question that begins with a dash" if asks and "No such option" in message else ""


def _complain(text: str) -> None:
    print(f"stairstream: error: {' '.join(text.split())}", file=sys.stderr, flush=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"stairstream {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Several language models answer together, and the answer starts long before they have all answered."""


@app.command("ask")
def ask_command(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask; - reads it from standard input.")],
    config: ConfigOption = None,
    pipeline: PipelineOption = None,
    policy: PolicyOption = None,
    settings: SetOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the answer and its numbers.")
    ] = False,
    draws: Annotated[bool, typer.Option("--draw", help="Draw the run as a staircase, below the answer.")] = False,
    is_quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer and nothing else.")] = False,
    system: SystemOption = None,
    pace: PaceOption = None,
    server: Annotated[
        str | None, option("URL", "Ask a running server, and come back to the run when the connection is lost.")
    ] = None,
    key_file: KeyFileOption = None,
) -> None:
    """Ask a pipeline; the answer is printed as it comes."""
    if server is not None:
        _check_no_config(ctx)
        from stairstream.cli.asking import Question, ask_server

        asked = Question(
            text=question, pipeline=pipeline, policy=policy, settings=settings or [], system=system, pace=pace
        )
        key = _environment_key()
        ask_server(asked, server, key, key_file, as_json=as_json, draws=draws, is_quiet=is_quiet)
        return
    from stairstream.cli.ask import ask

    ask(
        question,
        config=config,
        pipeline=pipeline,
        policy=policy,
        settings=settings or [],
        as_json=as_json,
        draws=draws,
        is_quiet=is_quiet,
        system=system,
        pace=pace,
    )


def _check_no_config(ctx: typer.Context) -> None:
    """Checks that no configuration is named beside a server, which has its own."""
    source = ctx.get_parameter_source("config")
    if source is not None and source.name == "COMMANDLINE":
        raise ConfigError("--config: the server of --server has its own; leave one of them out")


def _environment_key() -> str | None:
    return os.environ.get("STAIRSTREAM_API_KEY") or None


@app.command("chat")
def chat_command(
    config: ConfigOption = None,
    pipeline: PipelineOption = None,
    policy: PolicyOption = None,
    settings: SetOption = None,
    system: SystemOption = None,
    pace: PaceOption = None,
) -> None:
    """Ask line by line; each question is answered with all that was said before."""
    from stairstream.cli.chat import chat

    chat(config=config, pipeline=pipeline, policy=policy, settings=settings or [], system=system, pace=pace)


@app.command("demo")
def demo_command(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask.")] = DEMO_QUESTION,
    config: ConfigOption = None,
    pipeline: PipelineOption = None,
    max_tokens: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Longest answer of each agent; 200 without it.")
    ] = None,
    is_simulated: Annotated[
        bool, typer.Option("--simulated", help="The same picture at the speed of hosted endpoints, without a model.")
    ] = False,
) -> None:
    """Watch a staircase: the same question with a policy, with waiting, and with the single model."""
    from stairstream.cli.demo import demo

    demo(question, config=config, pipeline=pipeline, max_tokens=max_tokens, is_simulated=is_simulated)


@app.command("watch")
def watch_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A run's id, the URL of its events, or a file of them (- reads it from standard input).",
        ),
    ],
    server: Annotated[
        str, typer.Option(metavar="URL", help="Where the run is, if RUN is an id.")
    ] = "http://127.0.0.1:8080",
    key_file: KeyFileOption = None,
) -> None:
    """Draw a run of a server while it runs, or one that is over."""
    from stairstream.cli.watch import watch

    watch(run, server=server, key=_environment_key(), key_file=key_file)


@app.command("train")
def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file: model, data, stages.")],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show samples and the plan (steps, memory, time, energy); train nothing."),
    ] = False,
    samples: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many of each stage it shows.")] = 2,
    on: Annotated[
        Literal["ray"] | None,
        option("NAME", "ray: the processes of `parallel` as a job on a Ray cluster, started again when one is lost."),
    ] = None,
) -> None:
    """Train an aggregator to read a staircase. Continues where it was interrupted."""
    from stairstream.cli.train import train, train_on

    if on is None or dry_run:
        train(config, dry_run=dry_run, num_samples=samples)
    else:
        train_on(config)


@app.command("pull")
def pull_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Which model, if not the default; or the URL of a .gguf or adapter's .zip."
        ),
    ] = None,
    sha256: Annotated[str | None, option("HEX", "The checksum of what the URL has; it is needed.")] = None,
) -> None:
    """Fetch a model for the embedded engine, or what others have trained, into the cache folder; prints its path."""
    from stairstream.cli.fetching import fetch_with_bar

    print(fetch_with_bar(name or DEFAULT_MODEL, sha256))


@app.command("check")
def check_command(config: ConfigOption = None) -> None:
    """Probe every model of a configuration: what it can, which layout it gets, and what a question will cost."""
    from stairstream.cli.check import check

    check(config)


add_prediction(app)


@app.command("prove")
def prove_command(
    seeds: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many seeds.")] = 10_000,
    start: Annotated[int, typer.Option("--from", metavar="SEED", min=0, help="The first of them.")] = 0,
    seed: Annotated[
        int | None, typer.Option(metavar="SEED", min=0, help="Replay this seed alone, and draw it.")
    ] = None,
    processes: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Processes that share the seeds.")] = 1,
    minutes: Annotated[float | None, option("NUMBER", "Begin no more seeds after so long.")] = None,
    out: Annotated[Path | None, option("FILE", "Where the summary is written, as JSON.")] = None,
) -> None:
    """Prove the engine: random runs in virtual time, each judged by what must hold after every run."""
    from stairstream.cli.prove import prove_many, prove_one

    if seed is not None:
        prove_one(seed)
    else:
        prove_many(start, seeds, processes=processes, minutes=minutes, to=out)


add_serving(app)


@app.command("init")
def init_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("stairstream.yaml"),
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Where models run: an address, or one of openrouter, openai, anthropic, gemini, azure, ollama, vllm, "
            "llamacpp; may be repeated. Without it, questions in the terminal.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A model of the endpoint, of several as ENDPOINT=NAME; may be repeated."),
    ] = None,
    key_variable: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="The environment variable with the endpoint's key, of several as ENDPOINT=NAME. "
            "Known endpoints have a usual one; the key itself is never written.",
        ),
    ] = None,
    aggregator: Annotated[str | None, option("NAME", "The model that answers; without it, the first.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a configuration for your own models: chooses endpoints and models by questions or by options."""
    from stairstream.cli.init.command import init

    init(file, endpoint or [], model or [], key_variable or [], aggregator, force)


@app.command("schema")
def schema_command() -> None:
    """Print a JSON Schema of the configuration file, by which an editor completes and checks its keys."""
    from stairstream.cli.schema import schema_text

    print(schema_text(), end="")
