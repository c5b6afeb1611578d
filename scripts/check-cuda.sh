#!/usr/bin/env bash
# What can be known of the CUDA backend without a GPU: everything compiles and links for Hopper, the hot kernels keep within
# their registers, the benchmarks run, the addon loads where no driver is, and every kernel and every order of streams is right
# on the emulator.
#
#   scripts/check-cuda.sh            needs python3 with pip (NVIDIA's compiler comes from its wheels), g++, make, node
#
# JOBS (default: all cores) and ARCH (90a) may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
arch=${ARCH:-90a}

say() { printf -- '-- %s (%ss)\n' "$1" "$SECONDS"; }

home=$(scripts/cuda-toolchain.sh)
say "the compiler is in $home"

# Only that it compiles and links is asked of the host's side here, so it is not optimised.
make -C native BUILD=build/cuda CUDA=1 CUDA_HOME="$home" CUDA_ARCHS="$arch" OPTIMISE=-O0 -j"$jobs" addon parity build/cuda/bench_gpu
say 'everything compiles and links'

npx --no-install tsx scripts/cuda-registers.ts native/build/cuda/obj/ops/cuda native/ops/cuda/registers.json "sm_$arch"
say 'kernels keep within their registers'

native/build/cuda/bench_gpu --device cpu --small --blocks 1 --precision int8 | tail -n 3
native/build/cuda/bench_gpu --device cpu --small --only tiny --blocks 520 | tail -n 3  # beyond the released table of positions
say 'the benchmarks run, with toy sizes on the processor'

node -e '
  const addon = require("./native/build/cuda/longlive.node");
  const cuda = addon.devices().find(({ device }) => device === "cuda");
  if (!addon.cudaBuilt || !cuda.detail) throw new Error(`an addon built with CUDA says: ${JSON.stringify(cuda)}`);
  console.log(`cuda: ${cuda.available ? "available" : "not available"}: ${cuda.detail}`);
'
say 'the addon loads'

if [ "$(uname -m)" = x86_64 ]; then
  for order in forward reverse; do
    LONGLIVE_CUBLASLT=off LONGLIVE_EMULATOR_ORDER=$order make -C native -j"$jobs" check-emulated
    say "kernels are right on the emulator, threads $order"
  done
fi
