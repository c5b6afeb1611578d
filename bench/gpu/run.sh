#!/usr/bin/env bash
# Builds the CUDA backend on a machine with a GPU, checks it there, and measures it. Needs g++, make, and a CUDA toolkit of 12.4 or
# later (products in fp8; Blackwell: 12.8) with a driver for it (525.60 or later for 12.x, 580 for 13.x); nothing is downloaded.
# Stages, in this order when none is named:
#
#   build     parity and bench_gpu for this GPU, and the register and spill report of every kernel
#   parity    every golden case on the device: fp32 to 1e-4, bf16 to 3e-2 (each with and without special kernels, and with
#             single launches instead of graphs); int8, 8-bit attention and, where the chip has it, fp8 to the limits of native/test/parity_limits.h; and the fast
#             kernels against plain ones at the sizes of 1.3B, which no golden case has
#   sanitize  compute-sanitizer (memcheck, racecheck) over a small case and a small bench
#   kernels   ceilings and the kernel table, bf16 and 8 bits
#   tiny      blocks, first chunk, recache and prompt switch with the tiny decoder; the same without graphs, without lanes,
#             without a step of the next block beside decoding, with portable kernels, and with positions by slot
#   torch     the same network, and attention alone, in PyTorch
#   text      prompts through the text encoder, with its weights in 8 bits and in bf16
#   full      the same as tiny with the full VAE, bf16
#   eight     tiny in 8 bits: linear layers in int8 and fp8, attention, and both
#   quality   latents of these against bf16 on the same noise after 1, 6 and 20 blocks, of even random weights and of such with outliers
#   next      (when named) what no device has measured yet, the most valuable first: build; compare; kernels, eight, sanitize,
#             tiny (without graphs, lanes and special kernels, and with positions by slot), text, full, quality, parity, torch, collect
#   compare   (when named) bench_gpu of another state, BEFORE, and this one in turns: kernels, and blocks with the tiny decoder, in bf16
#             and in 8 bits. Where BEFORE names a commit, its bench_gpu is built first; by itself that is the one before the kernels that
#             no device has timed
#   collect   bench/results/gpu-<device>-<date>.json from what the other stages wrote (which every stage does at its end), and
#             docs/benchmarks.md where node_modules is
#
# A call ends within ten minutes (CALL) and says what is left; the next one goes on where it ended. So everything is:
#
#   while bench/gpu/run.sh; [[ $? -eq 3 ]]; do :; done
#
# or stage by stage, in any order: bench/gpu/run.sh build parity. A step that passed with these binaries is not run again, nor is one
# that hung (remove native/build/gpu/state/NAME.hung to try it again); one that failed otherwise is. Ends in 3 while something is
# left, in 1 if something failed.
#
# A stage or step that fails keeps nobody from the others. Steps have limits of their own (a kernel that hangs costs no more);
# what a step measured before its limit is kept. After bf16 with all kernels has hung, only portable ones are measured.
#
# Everything is kept in native/build/gpu: binaries, and state/ with the logs and numbers of every step, of one device and driver:
# what another one gave is set aside. If OUT names a folder, state.tar.gz and the result file are put there after every step. To go
# on on another machine, unpack state.tar.gz into native/build/gpu/state there. Binaries may be built elsewhere (ARCH=90a
# bench/gpu/run.sh build, no GPU needed) and brought as native/build/gpu/{parity,bench_gpu,stamp}: where they run and fit the
# sources, nothing is compiled.
#
# Environment: STEPS (a regular expression: of the stages, only the steps with such names; what need not have the device for itself, which is all
# but kernels, tiny, torch, text, full, eight and compare, can so run beside each other), GOLDEN (folder of golden cases; default: ../shared/golden
# beside the repository, else test/golden), CUDA_HOME, BLOCKS (measured blocks, 320 = 240 s of video), ARCH (default: the GPU's own), LIMIT (no
# step gets more seconds, 540), CALL (seconds after which everything has ended, 580; 0: no end), BEFORE (for compare: a bench_gpu,
# or a commit of this repository).
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
native=$root/native
build=$native/build/gpu
state=$build/state
golden=$root/test/golden
[[ -d $root/../shared/golden ]] && golden=$root/../shared/golden
golden=${GOLDEN:-$golden}
blocks=${BLOCKS:-320}
limit=${LIMIT:-540}
call=${CALL:-580}
# The commit before tiles of 224 columns, the shared odd tile of queries, and convolutions on the latent in F32.
untimed=b85afff65262160abfbc90456797b1453dfc9470
failed=()
left=()
export root native build state

# "NAME, DRIVER"; nothing where there is no GPU.
gpu_here() { nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1; }

# Numbers of another device, or under another driver, are not gone on with.
own_state() {
  local gpu aside
  gpu=$(gpu_here)
  if [[ -n $gpu && -f $state/device && $(<"$state/device") != "$gpu" ]]; then
    aside=$state-$(date +%s)
    echo "state is of $(<"$state/device"), this is $gpu: set aside as $aside"
    mv "$state" "$aside"
  fi
  mkdir -p "$state"
  [[ -z $gpu ]] || echo "$gpu" >"$state/device"
}

# 90 for 9.0; asked once.
capability() {
  [[ -n ${known:-} ]] || known=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ')
  [[ $known =~ ^[0-9]+$ ]] || known=$(tr -cd 0-9 <<<"${ARCH:-}")
  [[ -n $known ]] || known=$(python3 -c 'import torch;print("%d%d" % torch.cuda.get_device_capability())' 2>/dev/null)
  echo "${known:-0}"
}

# Hopper and later have instructions of their own behind the suffix "a".
architecture() {
  local c
  c=$(capability)
  [[ $c -ge 90 && $c -lt 120 ]] && echo "${c}a" || echo "$c"
}

has_fp8() { [[ $(capability) -ge 89 ]]; }

find_toolkit() {
  if [[ -z ${CUDA_HOME:-} ]]; then
    local nvcc
    nvcc=$(command -v nvcc || ls /usr/local/cuda*/bin/nvcc 2>/dev/null | tail -1)
    if [[ -n $nvcc ]]; then
      CUDA_HOME=$(cd "$(dirname "$(readlink -f "$nvcc")")/.." && pwd)
    elif [[ -x $build/bench_gpu ]]; then
      CUDA_HOME=/usr/local/cuda  # binaries were brought
    else
      echo "run.sh: no nvcc; set CUDA_HOME" >&2
      exit 1
    fi
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

# What binaries are made from.
sources() {
  (cd "$native" && find . -path ./build -prune -o -type f \( -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.h' -o -name Makefile \) -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
}
binaries() { cat "$build/parity" "$build/bench_gpu" 2>/dev/null | sha256sum | cut -c1-16; }

# What is there so far goes where it is wanted, so that a call that is cut off has given it.
deliver() {
  [[ -n ${OUT:-} ]] || return 0
  mkdir -p "$OUT"
  tar -czf "$OUT/.state" -C "$state" . && mv -f "$OUT/.state" "$OUT/state.tar.gz"
  cp -f "$state"/gpu-*.json "$OUT" 2>/dev/null || true
}

# step NAME SECONDS COMMAND...: shows the end of the output, keeps all of it, remembers a failure. What passed or hung with the
# binaries that are there is not run again. NAME.of says what the step's log and numbers are of.
step() {
  local name=$1 seconds=$2 began=$SECONDS status cut=
  shift 2
  [[ -z ${STEPS:-} || $name =~ ^(${STEPS})$ ]] || return 0
  if [[ $name != build && -f $state/$name.ok && $(<"$state/$name.ok") == "$made" ]]; then
    echo "== $name passed before"
    return
  fi
  if [[ $name != build && -f $state/$name.hung && $(<"$state/$name.hung") == "$made" ]]; then
    echo "== $name hung before"
    failed+=("$name")
    return
  fi
  ((seconds < limit)) || seconds=$limit
  if [[ $call -gt 0 ]]; then
    # The last seconds are for an end by force, and for what remains to be gathered.
    local remaining=$((call - SECONDS - 15))
    if ((remaining < 15)); then
      left+=("$name")
      return
    fi
    ((seconds <= remaining)) || { seconds=$remaining cut=1; }
  fi
  echo "== $name"
  rm -f "$state/$name".{ok,hung,json}
  echo "$made" >"$state/$name.of"
  export -f bench make_native make_before sources kernel_report
  timeout -k 10 "$seconds" bash -c '"$@"' step "$@" >"$state/$name.log" 2>&1
  status=$?
  if [[ $status -eq 0 ]]; then
    tail -n 40 "$state/$name.log"
    [[ $name == build ]] && made=$(binaries)
    echo "$made" >"$state/$name.ok"
  elif [[ ($status -eq 124 || $status -eq 137) && -n $cut ]]; then
    echo "== $name cut off: the call is over"
    left+=("$name")
  else
    tail -n 60 "$state/$name.log"
    echo "== $name FAILED ($status)"
    [[ $status -eq 124 || $status -eq 137 ]] && echo "$made" >"$state/$name.hung"
    failed+=("$name")
  fi
  echo "== $name took $((SECONDS - began)) s"
  deliver
}

make_native() {
  local stamp
  stamp="$(sources) $ARCH"
  if [[ $stamp == "$(cat "$build/stamp" 2>/dev/null)" ]] && "$build/bench_gpu" --device cpu --small --only ceilings && [[ -x $build/parity ]]; then
    echo "binaries of these sources are there"
    return
  fi
  make -C "$native" BUILD=build/gpu CUDA=1 CUDA_HOME="$CUDA_HOME" CUDA_ARCHS="$ARCH" -j"$(nproc)" "$@" && echo "$stamp" >"$build/stamp"
}

# make_before COMMIT FOLDER: bench_gpu of that commit's sources.
make_before() {
  local sources=$2/sources
  rm -rf "$sources" && mkdir -p "$sources"
  git -C "$root" archive "$1" native | tar -x -C "$sources"
  make -C "$sources/native" BUILD="$2" CUDA=1 CUDA_HOME="$CUDA_HOME" CUDA_ARCHS="$ARCH" -j"$(nproc)" "$2/bench_gpu"
}

kernel_report() {
  ls "$build"/obj/ops/cuda/*.log >/dev/null 2>&1 || { echo "binaries were built elsewhere"; return 0; }
  grep -hE 'Compiling entry|spill|registers' "$build"/obj/ops/cuda/*.log | (c++filt 2>/dev/null || cat) >"$state/registers.txt"
  echo "kernels that spill:"
  grep -B1 -E '[1-9][0-9]* bytes spill' "$state/registers.txt" || echo "  none"
}

stage_build() {
  step build 420 make_native parity build/gpu/bench_gpu
  step registers 20 kernel_report
}
parity() { step "parity-$1" 100 "$build/parity" "$golden" --device cuda "${@:2}"; }
stage_parity() {
  local p
  for p in fp32 bf16; do
    parity $p-portable --precision $p --isa portable
    parity $p --precision $p
  done
  local check=(--only check --precision)
  step check-bf16 240 bench "${check[@]}" bf16 --json "$state/check-bf16.json"
  parity int8 --precision int8
  measure check-int8 240 "${check[@]}" int8 --attention int8
  has_fp8 && measure check-fp8 240 "${check[@]}" fp8
  has_fp8 && parity fp8-attention-int8 --precision fp8 --attention int8
  parity bf16-attention-int8 --precision bf16 --attention int8
  for p in fp32 bf16 int8; do parity $p-eager --precision $p --isa eager,one-lane; done
  parity bf16-plain --precision bf16 --isa plain
}
bench() { "$build/bench_gpu" "$@"; }
# measure NAME SECONDS OPTIONS...: bench_gpu with these options, into NAME.json.
measure() {
  local name=$1 seconds=$2
  if [[ (-f $state/parity-bf16.hung || -f $state/check-bf16.hung) && " $* " != *portable* ]]; then
    echo "== $name left out: bf16 hung"
    failed+=("$name")
    return
  fi
  step "$name" "$seconds" bench "${@:3}" --json "$state/$name.json"
}
stage_kernels() {
  measure kernels-bf16-portable 90 --only kernels --isa portable
  measure ceilings-bf16 60 --only ceilings
  measure kernels-bf16 90 --only kernels
  measure kernels-int8-attention 90 --only kernels --precision int8 --attention int8
  has_fp8 && measure kernels-fp8 90 --only kernels --precision fp8
}
stage_tiny() {
  measure tiny-bf16 240 --only tiny --blocks "$blocks"
  local name
  for name in eager one-lane in-turn portable; do
    measure "tiny-bf16-$name" 120 --only tiny --isa $name --blocks $((blocks / 8 + 1))
  done
  measure tiny-bf16-relative 150 --only tiny --relative --blocks $((blocks / 4 + 1))
}
# Runs "$@" NAME OPTIONS... for every 8-bit configuration of this chip.
each_eight() {
  "$@" int8-attention --precision int8 --attention int8
  "$@" int8 --precision int8
  "$@" bf16-attention --precision bf16 --attention int8
  has_fp8 || return 0
  "$@" fp8 --precision fp8
  "$@" fp8-attention --precision fp8 --attention int8
}
eight() { measure "tiny-$1" 150 --only tiny "${@:2}" --blocks $((blocks / 4 + 1)); }
quality() { measure "quality-$1" 300 --only quality "${@:2}"; }
stage_text() { measure text-bf16 240 --only text; }
stage_eight() { each_eight eight; }
stage_quality() { each_eight quality; }
compare() { step "compare-$1" 300 python3 "$root/bench/gpu/compare.py" "$BEFORE" "$build/bench_gpu" --rounds 1 -- "${@:2}"; }
stage_compare() {
  local BEFORE=${BEFORE:-$untimed} commit
  if [[ ! -f $BEFORE || ! -x $BEFORE ]]; then
    if ! commit=$(git -C "$root" rev-parse --verify --quiet "$BEFORE^{commit}" 2>/dev/null); then
      echo "== compare left out: BEFORE names no bench_gpu, and no commit that is here: $BEFORE"
      failed+=(compare)
      return
    fi
    BEFORE=$build/before-$commit/bench_gpu
    [[ -x $BEFORE ]] || step build-before 420 make_before "$commit" "$build/before-$commit"
    if [[ ! -x $BEFORE ]]; then
      [[ " ${failed[*]} ${left[*]} " == *" build-before "* ]] || failed+=(build-before)
      return
    fi
  fi
  local eight=(--precision int8 --attention int8)
  compare kernels-int8-attention --only kernels "${eight[@]}"
  compare tiny-int8-attention --only tiny "${eight[@]}" --blocks $((blocks / 8 + 1))
  compare kernels-bf16 --only kernels
  compare tiny-bf16 --only tiny --blocks $((blocks / 8 + 1))
}
stage_full() {
  measure full-bf16 240 --only full --blocks $((blocks / 2))
  measure full-bf16-in-turn 120 --only full --isa in-turn --blocks $((blocks / 8 + 1))
}
stage_torch() { step torch 300 python3 "$root/bench/gpu/torch_model.py" --json "$state/torch.json"; }
stage_sanitize() {
  local tool sanitizer
  sanitizer=$(command -v compute-sanitizer || echo "$CUDA_HOME/bin/compute-sanitizer")
  for tool in memcheck racecheck; do
    step "sanitize-$tool-parity" 90 "$sanitizer" --tool $tool --error-exitcode 9 "$build/parity" "$golden" --device cuda --precision bf16 --only dit_block --isa portable
    step "sanitize-$tool-bench" 180 "$sanitizer" --tool $tool --error-exitcode 9 "$build/bench_gpu" --small --blocks 1
    step "sanitize-$tool-eight" 180 "$sanitizer" --tool $tool --error-exitcode 9 "$build/bench_gpu" --small --blocks 1 --precision int8 --attention int8
  done
}
gather() {
  python3 "$root/bench/gpu/collect.py" "$state" "$root/bench/results" "$made" "$(sources)" || failed+=(collect)
  deliver
}
stage_collect() {
  local tsx=$root/node_modules/.bin/tsx
  if [[ -x $tsx ]]; then (cd "$root" && "$tsx" bench/gpu/report.ts) || failed+=(report)
  else echo "no node_modules: docs/benchmarks.md is made elsewhere, by npx tsx bench/gpu/report.ts"; fi
}

stages=("$@")
[[ ${#stages[@]} -gt 0 ]] || stages=(build parity sanitize kernels tiny torch text full eight quality collect)
[[ ${stages[*]} != next ]] || stages=(build compare kernels eight sanitize tiny text full quality parity torch collect)
for s in "${stages[@]}"; do
  declare -F "stage_$s" >/dev/null || { echo "run.sh: no stage $s" >&2; exit 2; }
done
own_state
capability >/dev/null
find_toolkit
made=$(binaries)
for s in "${stages[@]}"; do
  [[ $s == collect ]] && gather
  "stage_$s"
  [[ $s == build || $s == collect ]] || gather
done
[[ ${#failed[@]} -eq 0 ]] || echo "FAILED: ${failed[*]}"
[[ ${#left[@]} -eq 0 ]] || echo "LEFT for another call: ${left[*]}"
if [[ ${#left[@]} -gt 0 ]]; then exit 3; fi
[[ ${#failed[@]} -eq 0 ]]
