#!/usr/bin/env bash
# The headers of cuBLAS from NVIDIA's Python wheel, for checks on machines without a CUDA toolkit. Needs python3 with pip. The wheel
# is large (0.4 GB), so only its headers are kept. Prints the folder to include.
#
# The cache folder is ${XDG_CACHE_HOME:-~/.cache}/longlive/cublas-<version>.
set -euo pipefail

version=13.1.0.3  # of CUDA 13.0
root=${XDG_CACHE_HOME:-$HOME/.cache}/longlive/cublas-$version
headers=$root/nvidia/cu13/include

if [[ ! -f $headers/cublasLt.h ]]; then
  wheel=$(mktemp -d)
  trap 'rm -rf "$wheel"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheel" "nvidia-cublas==$version" >&2
  python3 - "$wheel"/*.whl "$root" <<'PYTHON'
import sys
import zipfile

wheel, root = sys.argv[1:]
with zipfile.ZipFile(wheel) as file:
    file.extractall(root, [name for name in file.namelist() if name.endswith(".h")])
PYTHON
fi

echo "$headers"
