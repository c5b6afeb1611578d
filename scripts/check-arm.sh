#!/usr/bin/env bash
# The native core on 64-bit ARM: built by a cross compiler and run under emulation, on every level of instructions that ARM has here.
#
#   scripts/check-arm.sh         bounded, as in CI: kernels, convolutions and norms against their definitions; parity of the networks' parts with the reference
#   ALL=1 scripts/check-arm.sh   every native test, and parity in bf16; an hour
#
# Emulation says what is right, and nothing about speed. Needs g++-aarch64-linux-gnu and qemu-user-static (Debian's names).
set -euo pipefail
cd "$(dirname "$0")/../native"
build=build/arm
export QEMU_CPU=max QEMU_LD_PREFIX=/usr/aarch64-linux-gnu

make -s CXX=aarch64-linux-gnu-g++ BUILD=$build OPTIMISE=-O1 $build/test $build/parity

tests=(cpu: conv channelNorm 'bytes are' 'every instruction set' added)
[ -z "${ALL:-}" ] || tests=('')
for each in "${tests[@]}"; do qemu-aarch64-static $build/test "$each"; done

parity() { qemu-aarch64-static $build/parity ../test/golden "$@"; }
if [ -n "${ALL:-}" ]; then
  for precision in fp32 bf16 int8; do parity --precision $precision; done
else
  for each in units umt5 dit_block taehv_decode; do parity --only $each; done
  parity --precision int8 --only dit_block
fi

# Older processors have no SDOT, and a smaller level.
QEMU_CPU=cortex-a57 qemu-aarch64-static $build/test 'cpu: detection' | tee /dev/stderr | grep -q ' neon, calculates by neon'
