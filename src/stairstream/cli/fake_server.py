"""`stairstream fake-server`: scripted models behind an OpenAI-compatible endpoint."""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from stairstream.backends.scripted import Fault, Manner, Reported, Script, numbered_words
from stairstream.config.backends.scripted import FaultKeys, split_words
from stairstream.config.reading import Bound, Seconds, Where, Whole, check_keys, mapping, read, show
from stairstream.config.yaml_file import load_yaml
from stairstream.core.errors import ConfigError
from stairstream.server.fake.server import FakeContinues, FakeModel, serve_fake

_Rate = Annotated[float, Bound(least=0.001)]


_Interval = Annotated[int, Bound(least=2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchKey:
    """Tokens that come in one chunk: from `least` to `most`."""

    least: int
    most: int

    @classmethod
    def from_raw(cls, raw: object, where: Where) -> "BatchKey":
        """A number of tokens, or a range as text: 1-6."""
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(raw)) if isinstance(raw, str | int) else None
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= least <= most:
            raise where.error(f"must be a number of tokens, as 4, or a range, as 1-6, not {show(raw)}")
        return cls(least=least, most=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeKeys:
    """The words of a fake model and their times: `text`, or `length` numbered words, in chunks of `batch` tokens.

    Every `silent_every`-th token has no text; `usage` is what is said of their number.
    """

    text: str | None = None
    length: Whole | None = None
    first_token_s: Seconds = 0.2
    token_s: Seconds | None = None
    tokens_per_s: _Rate | None = None
    prefill_tokens_per_s: _Rate | None = None
    caches_prefix: bool = False
    continues: FakeContinues = "flag"
    batch: BatchKey = BatchKey(least=1, most=1)
    silent_every: _Interval | None = None
    usage: Reported = "exact"
    fault: FaultKeys | None = None


DEFAULT_TOKEN_S = 0.02
DEFAULT_LENGTH = 300


def fake_server(config: Path | None, names: Sequence[str], given: Mapping[str, object], host: str, port: int) -> None:
    """Serve until interrupted; prints where."""
    if config is not None and (names or given):
        raise ConfigError("give either a file with models or the options of models, not both")
    if config is not None:
        models = read_models(config)
    else:
        keys = read(FakeKeys, dict(given), Where(file="fake-server"))
        models = [_make_model(name, keys, Where(file="fake-server")) for name in dict.fromkeys(names or ["fake"])]
    asyncio.run(_serve(models, host, port))


def read_models(file: Path) -> list[FakeModel]:
    """The models of a YAML file."""
    where = Where(file=str(file))
    section = mapping(load_yaml(file), where)
    check_keys(section, ("models",), where)
    found = []
    for name, raw in mapping(section.get("models"), where / "models").items():
        key = where / "models" / name
        found.append(_make_model(name, read(FakeKeys, raw or {}, key), key))
    if not found:
        raise (where / "models").error("is empty; give at least one")
    return found


def _make_model(name: str, keys: FakeKeys, where: Where) -> FakeModel:
    if keys.token_s is not None and keys.tokens_per_s is not None:
        raise where.error("give either token_s or tokens_per_s, not both")
    if keys.text is not None and keys.length is not None:
        raise where.error("give either text or length, not both")
    token_s = 1 / keys.tokens_per_s if keys.tokens_per_s else keys.token_s
    script = Script(
        words=split_words(keys.text) if keys.text else numbered_words("w", keys.length or DEFAULT_LENGTH),
        first_token_s=keys.first_token_s,
        token_s=DEFAULT_TOKEN_S if token_s is None else token_s,
        prefill_tokens_per_s=keys.prefill_tokens_per_s or math.inf,
        caches_prefix=keys.caches_prefix,
        fault=Fault(**asdict(keys.fault)) if keys.fault else None,
        manner=Manner(batch=(keys.batch.least, keys.batch.most), silent_every=keys.silent_every, usage=keys.usage),
    )
    return FakeModel(name=name, script=script, continues=keys.continues)


async def _serve(models: Sequence[FakeModel], host: str, port: int) -> None:
    try:
        async with serve_fake(models, host, port) as serving:
            print(f"serving {', '.join(model.name for model in models)} on {serving.base_url}", flush=True)
            await asyncio.get_running_loop().create_future()
    except OSError as exc:
        raise ConfigError(f"can't listen on {host}:{port}: {exc.strerror or exc}") from exc
