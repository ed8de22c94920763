"""The peers' packages, each in a virtual environment of its own under `build/peers`, installed from the registry."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "peers"

_SDK = "openai==3.57.0"
PACKAGES: Mapping[str, Sequence[Sequence[str]]] = {
    "together": [[_SDK]],
    "mixture-llm": [["mixture-llm==0.1.3", _SDK]],
    # its proxy imports these; torch, spacy, gradio and thirty more that it names are of other approaches than moa
    "optillm": [
        ["--no-deps", "optillm==0.4.0"],
        [_SDK, "flask==3.1.3", "cerebras_cloud_sdk==1.91.0", "networkx==3.6.1", "math-verify==0.9.0"],
        ["z3-solver==4.15.4.0", "numpy==2.4.6", "aiohttp==3.14.5", "pyyaml==6.0.4"],
    ],
    "litellm": [["litellm[proxy]==1.108.7"]],
}
"""Arguments of `pip install`, one call after the other, by environment."""


def install(name: str) -> Path:
    """The `bin` folder of an environment, made unless it is there with these packages."""
    folder = FOLDER / name
    marker, wanted = folder / "installed", repr(PACKAGES[name])
    if not (marker.exists() and marker.read_text() == wanted):
        print(f"installing {name} in {folder.relative_to(ROOT)}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in PACKAGES[name]:
            _pip(folder, packages)
        marker.write_text(wanted)
    return folder / "bin"


def _pip(folder: Path, packages: Sequence[str]) -> None:
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"pip can't install {' '.join(packages)}:\n{done.stderr[-2000:]}")
