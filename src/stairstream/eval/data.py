"""The recorded data that evaluations use: which sets there are, where they are kept, and the systems in them.

A file is in the cache folder, where `stairstream eval fetch` puts it, or next to a checkout; none is part of the
project.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stairstream.backends.models import cache_folder

PROPOSERS = ("Meta-Llama-3-70B-Instruct", "Qwen2-72B-Instruct", "Mixtral-8x22B-Instruct-v0.1")
REFERENCE = "Together-MoA-Lite"
"""Systems in ALPACA_EVAL: three single models (PROPOSERS) and a mixture (REFERENCE)."""
SYSTEMS = (*PROPOSERS, "Qwen1.5-72B-Chat", "dbrx-instruct", REFERENCE, "Together-MoA", "gpt-4o-2024-05-13")
"""All systems in ALPACA_EVAL."""

_BESIDE = Path("../shared/data")
_GITHUB = "https://raw.githubusercontent.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A set of questions, with or without recorded answers.

    `addresses` are of the files that it is made of: one, or one for each of SYSTEMS. `sha256` is of the text that the
    file holds, unpacked.
    """

    name: str
    file: str
    what: str
    project: str
    licence: str
    addresses: tuple[str, ...]
    sha256: str


ALPACA_EVAL = DataSet(
    name="alpaca-eval",
    file="alpaca_eval_outputs.jsonl.gz",
    what="600 prompts of AlpacaEval with the recorded answers of eight systems",
    project="https://github.com/tatsu-lab/alpaca_eval",
    licence="CC BY-NC 4.0: not for commercial use",
    addresses=tuple(f"{_GITHUB}/tatsu-lab/alpaca_eval/main/results/{name}/model_outputs.json" for name in SYSTEMS),
    sha256="7a164d5bf6f568de3dcfaa2a2352ed1ead8780117ee66faa720f97a944cc14d4",
)
GSM8K = DataSet(
    name="gsm8k",
    file="gsm8k_test.jsonl.gz",
    what="1,319 problems with their solutions",
    project="https://github.com/openai/grade-school-math",
    licence="MIT",
    addresses=(f"{_GITHUB}/openai/grade-school-math/master/grade_school_math/data/test.jsonl",),
    sha256="3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
)
MT_BENCH = DataSet(
    name="mt-bench",
    file="mt_bench_questions.jsonl.gz",
    what="80 questions of two turns",
    project="https://github.com/lm-sys/FastChat",
    licence="Apache-2.0",
    addresses=(f"{_GITHUB}/lm-sys/FastChat/main/fastchat/llm_judge/data/mt_bench/question.jsonl",),
    sha256="119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
)
ARENA_HARD = DataSet(
    name="arena-hard",
    file="arena_hard_v0.1_questions.jsonl.gz",
    what="500 prompts of Arena-Hard v0.1",
    project="https://github.com/lmarena/arena-hard-auto",
    licence="Apache-2.0",
    addresses=(
        f"{_GITHUB}/lmarena/arena-hard-auto/bed160442a7ee41ebc7581774ed5a8fcec2b894a"
        "/src/arenahard/data/arena-hard-v0.1/question.jsonl",
    ),
    sha256="2650242d2883f22b2abd498f273b6a7e02253cce533f5c91a858e1d44aa3002f",
)
DATA_SETS: Mapping[str, DataSet] = {one.name: one for one in (GSM8K, MT_BENCH, ALPACA_EVAL, ARENA_HARD)}


def path_of(data: DataSet) -> Path:
    """Where a fetched file is kept, whether it is there or not."""
    return cache_folder() / "data" / data.file


def find_data(data: DataSet) -> Path:
    """The file of a set: the fetched one, else one next to a checkout; the former's path if there is neither."""
    beside = _BESIDE / data.file
    return beside if beside.is_file() and not path_of(data).is_file() else path_of(data)


def advise(file: Path) -> str:
    """The way to get a file that is not there."""
    known = next((one for one in DATA_SETS.values() if one.file == file.name), None)
    return f"fetch it with: stairstream eval fetch {known.name}" if known else "name another one"
