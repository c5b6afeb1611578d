#!/usr/bin/env bash
# Builds the CUDA backend on a machine with a GPU, checks it there, and measures it. Needs nvcc, g++ and make; nothing is
# downloaded. Stages, in this order when none is named:
#
#   build     parity and bench_gpu for this GPU, and the register and spill report of every kernel
#   parity    every golden case on the device: fp32 to 1e-4, bf16 to 3e-2 (each with and without special kernels, and with
#             single launches instead of graphs); int8, 8-bit attention and, where the chip has it, fp8 reported
#   sanitize  compute-sanitizer (memcheck, racecheck) over a small case and a small bench
#   kernels   ceilings and the kernel table, bf16 and 8 bits
#   tiny      blocks, first chunk, recache and prompt switch with the tiny decoder; the same without graphs, without lanes, and
#             without a step of the next block beside decoding
#   eight     the same in 8 bits: linear layers in int8 and fp8, attention, and both
#   quality   latents of these against bf16 on the same noise
#   full      the same with the full VAE, bf16
#   torch     the same network in PyTorch
#   collect   bench/results/gpu-<device>-<date>.json from what the other stages wrote, and docs/benchmarks.md where node is
#
#   bench/gpu/run.sh build parity          and later, in another call on the same machine
#   bench/gpu/run.sh                       goes on where the first one ended: a step that passed with these binaries is not run again
#
# Every step ends within LIMIT seconds (540), so that calls of ten minutes do; none needs more than a call.
# Everything is also written to $OUT (default: build/gpu beside the native build). Environment: GOLDEN (folder of golden
# cases), CUDA_HOME, BLOCKS (measured blocks, 320 = 240 s of video), ARCH (default: the GPU's own), CALL (seconds after which no
# further step is begun; default none).
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
native=$root/native
out=${OUT:-$native/build/gpu}
golden=${GOLDEN:-$root/test/golden}
blocks=${BLOCKS:-320}
limit=${LIMIT:-540}
call=${CALL:-0}
mkdir -p "$out"
failed=()
left=()
export native out

capability() { nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d '. '; }

# Hopper and later have instructions of their own behind the suffix "a".
architecture() {
  local c
  c=$(capability)
  [[ ${c:-0} -ge 90 && ${c:-0} -lt 120 ]] && echo "${c}a" || echo "$c"
}

has_fp8() { [[ $(capability) -ge 89 ]]; }

find_toolkit() {
  if [[ -z ${CUDA_HOME:-} ]]; then
    local nvcc
    nvcc=$(command -v nvcc || ls /usr/local/cuda*/bin/nvcc 2>/dev/null | tail -1)
    [[ -n $nvcc ]] || { echo "run.sh: no nvcc; set CUDA_HOME" >&2; exit 1; }
    CUDA_HOME=$(cd "$(dirname "$(readlink -f "$nvcc")")/.." && pwd)
  fi
  export CUDA_HOME ARCH=${ARCH:-$(architecture)}
  # cuBLASLt from the toolkit, or the one that PyTorch brings.
  if [[ -z ${LONGLIVE_CUBLASLT:-} ]]; then
    local lt
    lt=$(ls "$CUDA_HOME"/lib64/libcublasLt.so.1[23] "$CUDA_HOME"/lib/libcublasLt.so.1[23] 2>/dev/null | tail -1)
    [[ -n $lt ]] || lt=$(python3 -c 'import glob,site;print(next(iter(sorted(f for d in site.getsitepackages() for f in glob.glob(d+"/nvidia/*/lib/libcublasLt.so.1[23]"))),""))' 2>/dev/null)
    [[ -n $lt ]] && export LONGLIVE_CUBLASLT=$lt
  fi
  echo "nvcc: $CUDA_HOME; cuBLASLt: ${LONGLIVE_CUBLASLT:-none}"
}

# step NAME COMMAND...: shows the end of the output, keeps all of it, remembers a failure. What passed with the binaries that are
# there is not run again.
step() {
  local name=$1 began=$SECONDS
  shift
  if [[ $name != build && -f $out/$name.ok && $out/$name.ok -nt $native/build/parity && $out/$name.ok -nt $native/build/bench_gpu ]]; then
    echo "== $name passed before"
    return
  fi
  if [[ $call -gt 0 && $SECONDS -gt $call ]]; then
    left+=("$name")
    return
  fi
  echo "== $name"
  rm -f "$out/$name.ok"
  export -f bench make_native kernel_report
  if timeout "$limit" bash -c '"$@"' step "$@" >"$out/$name.log" 2>&1; then
    tail -n 40 "$out/$name.log"
    touch "$out/$name.ok"
  else
    tail -n 60 "$out/$name.log"
    echo "== $name FAILED"
    failed+=("$name")
  fi
  echo "== $name took $((SECONDS - began)) s"
}

make_native() { make -C "$native" CUDA=1 CUDA_HOME="$CUDA_HOME" CUDA_ARCHS="$ARCH" -j"$(nproc)" "$@"; }

kernel_report() {
  grep -hE 'Compiling entry|spill|registers' "$native"/build/obj/ops/cuda/*.log | (c++filt 2>/dev/null || cat) >"$out/registers.txt"
  echo "kernels that spill:"
  grep -B1 -E '[1-9][0-9]* bytes spill' "$out/registers.txt" || echo "  none"
}

stage_build() {
  step build make_native parity build/bench_gpu
  step registers kernel_report
}
parity() { step "parity-$1" "$native/build/parity" "$golden" --device cuda "${@:2}"; }
stage_parity() {
  local p
  for p in fp32 bf16; do
    parity $p-portable --precision $p --isa portable
    parity $p --precision $p
    parity $p-eager --precision $p --isa eager,one-lane
  done
  parity bf16-plain --precision bf16 --isa plain
  parity bf16-attention-int8 --precision bf16 --attention int8
  has_fp8 && parity fp8-attention-int8 --precision fp8 --attention int8
  parity int8 --precision int8
  parity int8-eager --precision int8 --isa eager,one-lane
}
stage_sanitize() {
  local tool
  for tool in memcheck racecheck; do
    step "sanitize-$tool-parity" compute-sanitizer --tool $tool --error-exitcode 9 "$native/build/parity" "$golden" --device cuda --precision bf16 --only dit_block_hd128 --isa portable
    step "sanitize-$tool-bench" compute-sanitizer --tool $tool --error-exitcode 9 "$native/build/bench_gpu" --small --blocks 1
    step "sanitize-$tool-eight" compute-sanitizer --tool $tool --error-exitcode 9 "$native/build/bench_gpu" --small --blocks 1 --precision int8 --attention int8
  done
}
bench() { "$native/build/bench_gpu" "$@"; }
stage_kernels() {
  step kernels-bf16 bench --only ceilings --json "$out/ceilings-bf16.json"
  step kernels-bf16-table bench --only kernels --json "$out/kernels-bf16.json"
  step kernels-bf16-portable bench --only kernels --isa portable --json "$out/kernels-bf16-portable.json"
  step kernels-int8-attention bench --only kernels --precision int8 --attention int8 --json "$out/kernels-int8-attention.json"
  has_fp8 && step kernels-fp8 bench --only kernels --precision fp8 --json "$out/kernels-fp8.json"
}
stage_tiny() {
  step tiny-bf16 bench --only tiny --blocks "$blocks" --json "$out/tiny-bf16.json"
  step tiny-bf16-eager bench --only tiny --isa eager --blocks $((blocks / 8 + 1)) --json "$out/tiny-bf16-eager.json"
  step tiny-bf16-one-lane bench --only tiny --isa one-lane --blocks $((blocks / 8 + 1)) --json "$out/tiny-bf16-one-lane.json"
  step tiny-bf16-in-turn bench --only tiny --isa in-turn --blocks $((blocks / 8 + 1)) --json "$out/tiny-bf16-in-turn.json"
}
# Runs "$@" NAME OPTIONS... for every 8-bit configuration of this chip.
each_eight() {
  "$@" int8 --precision int8
  "$@" bf16-attention --precision bf16 --attention int8
  "$@" int8-attention --precision int8 --attention int8
  has_fp8 || return 0
  "$@" fp8 --precision fp8
  "$@" fp8-attention --precision fp8 --attention int8
}
eight() { step "tiny-$1" bench --only tiny "${@:2}" --blocks $((blocks / 4 + 1)) --json "$out/tiny-$1.json"; }
quality() { step "quality-$1" bench --only quality "${@:2}" --json "$out/quality-$1.json"; }
stage_eight() { each_eight eight; }
stage_quality() { each_eight quality; }
stage_full() {
  step full-bf16 bench --only full --blocks $((blocks / 2)) --json "$out/full-bf16.json"
  step full-bf16-in-turn bench --only full --isa in-turn --blocks $((blocks / 8 + 1)) --json "$out/full-bf16-in-turn.json"
}
stage_torch() { step torch python3 "$root/bench/gpu/torch_model.py" --json "$out/torch.json"; }
stage_collect() {
  python3 "$root/bench/gpu/collect.py" "$out" "$root/bench/results" "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1)" || failed+=(collect)
  if command -v npx >/dev/null; then (cd "$root" && npx --no-install tsx bench/gpu/report.ts); fi
}

stages=("$@")
[[ ${#stages[@]} -gt 0 ]] || stages=(build parity sanitize kernels tiny eight quality full torch collect)
for s in "${stages[@]}"; do
  declare -F "stage_$s" >/dev/null || { echo "run.sh: no stage $s" >&2; exit 2; }
done
find_toolkit
for s in "${stages[@]}"; do "stage_$s"; done
if [[ ${#left[@]} -gt 0 ]]; then echo "LEFT for another call: ${left[*]}"; fi
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
