#!/usr/bin/env bash
# What can be known of the CUDA backend without a GPU: everything compiles and links for Hopper, and its kernels for the other chips;
# the hot kernels keep within their registers; what is written down of cuBLASLt is what its header says; the benchmarks run; the
# addon loads where no driver is; and on the emulator every kernel and every order of streams is right, and every golden case.
#
#   scripts/check-cuda.sh            bounded, as in CI; needs python3 with pip (NVIDIA's compiler comes from its wheels), g++, make, node
#   ALL=1 scripts/check-cuda.sh      every chip, and the emulator's threads in both orders; half an hour longer
#
# JOBS (default: all cores), ARCH (90a) and OTHER_ARCHS (80, the oldest; with ALL 80 89 100a) may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
arch=${ARCH:-90a}
others=${OTHER_ARCHS:-${ALL:+80 89 100a}}
others=${others:-80}

say() { printf -- '-- %s (%ss)\n' "$1" "$SECONDS"; }

home=$(scripts/cuda-toolchain.sh)
say "the compiler is in $home"

# Only that it compiles and links is asked of the host's side here, so it is not optimised.
make -C native BUILD=build/cuda CUDA=1 CUDA_HOME="$home" CUDA_ARCHS="$arch" OPTIMISE=-O0 -j"$jobs" addon parity build/cuda/bench_gpu
say 'everything compiles and links'

make -C native BUILD=build/cuda-others CUDA=1 CUDA_HOME="$home" CUDA_ARCHS="$others" -j"$jobs" kernels
say "kernels compile for $others"

g++ -std=c++20 -fsyntax-only -Inative/include -Inative/ops -Inative -isystem "$home/include" -isystem "$(scripts/cublas-headers.sh)" \
  -include cublasLt.h native/ops/cuda/cublaslt.cpp
say "cuBLASLt's header agrees"

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

[ "$(uname -m)" = x86_64 ] || exit 0
export LONGLIVE_CUBLASLT=off

# Asynchronous copies at the latest legal time, where one that nobody waited for shows; and at once, with the threads in the other order.
LONGLIVE_EMULATOR_ORDER=forward LONGLIVE_EMULATOR_COPIES=late make -C native -j"$jobs" check-emulated
say 'kernels are right on the emulator'
if [ -n "${ALL:-}" ]; then
  LONGLIVE_EMULATOR_ORDER=reverse LONGLIVE_EMULATOR_COPIES=eager make -C native -j"$jobs" check-emulated
  say 'kernels are right on the emulator in the other order'
fi

make -C native -j"$jobs" build/parity_emulated
native/build/parity_emulated test/golden --device cuda --precision fp32 >native/build/parity-emulated-fp32.log &
single=$!
native/build/parity_emulated test/golden --device cuda --precision bf16
wait "$single" || { cat native/build/parity-emulated-fp32.log; exit 1; }
say 'golden cases are right on the emulator, in F32 and bf16'
LONGLIVE_EMULATOR_CHIP=9.0 native/build/parity_emulated test/golden --device cuda --precision bf16 --only dit_block_hd128  # the one that is wide enough
say 'and on an emulated Hopper'
