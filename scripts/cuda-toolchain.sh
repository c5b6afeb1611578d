#!/usr/bin/env bash
# Installs NVIDIA's CUDA compiler from its Python wheels, for machines without the CUDA toolkit (CI, a laptop). Needs
# python3 with pip; no root, no GPU. Prints the folder to build with:
#
#   make -C native CUDA=1 CUDA_HOME="$(scripts/cuda-toolchain.sh)"
#
# The cache folder is ${XDG_CACHE_HOME:-~/.cache}/longlive/cuda-<version>, or the argument.
set -euo pipefail

version=13.0
packages=(
  nvidia-cuda-nvcc==13.0.88     # nvcc, ptxas, nvlink, fatbinary
  nvidia-cuda-crt==13.0.88      # headers that nvcc includes by itself
  nvidia-nvvm==13.0.88          # cicc and libdevice
  nvidia-cuda-runtime==13.0.96  # headers and libcudart_static.a
  nvidia-cuda-cccl==13.0.85     # headers that cuda_fp16.h and cuda_bf16.h include
)

root=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/longlive/cuda-$version}
home=$root/nvidia/cu13
stamp=$root/.packages

if [[ ! -x $home/bin/nvcc || "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ]]; then
  rm -rf "$root"
  mkdir -p "$root"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$root" "${packages[@]}" >&2
  echo "${packages[*]}" >"$stamp"
fi

"$home/bin/nvcc" --version >/dev/null
[[ -f $home/lib/libcudart_static.a ]] || { echo "cuda-toolchain: libcudart_static.a is missing from $home/lib" >&2; exit 1; }
echo "$home"
