#!/usr/bin/env bash
# Builds the CUDA backend on a machine with a GPU, checks it there, and measures it. Needs nvcc, g++ and make; nothing is
# downloaded. Stages, in this order when none is named:
#
#   build     parity and bench_gpu for this GPU, and the register and spill report of every kernel
#   parity    every golden case on the device: fp32 to 1e-4, bf16 to 3e-2 (each with and without special kernels), int8 reported
#   sanitize  compute-sanitizer (memcheck, racecheck) over a small case and a small bench
#   kernels   ceilings and the kernel table, bf16 and int8
#   tiny      blocks, first chunk, recache and prompt switch with the tiny decoder, bf16 and int8
#   full      the same with the full VAE, bf16
#   torch     the same network in PyTorch
#   collect   bench/results/gpu-<device>-<date>.json from what the other stages wrote
#
#   bench/gpu/run.sh build parity          and later, in another call on the same machine
#   bench/gpu/run.sh kernels tiny collect
#
# Everything is also written to $OUT (default: build/gpu beside the native build). Environment: GOLDEN (folder of golden
# cases), CUDA_HOME, BLOCKS (measured blocks, 320 = 240 s of video), ARCH (default: the GPU's own).
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
native=$root/native
out=${OUT:-$native/build/gpu}
golden=${GOLDEN:-$root/test/golden}
blocks=${BLOCKS:-320}
mkdir -p "$out"
failed=()

capability() { nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d '. '; }

# Hopper and later have instructions of their own behind the suffix "a".
architecture() {
  local c
  c=$(capability)
  [[ ${c:-0} -ge 90 && ${c:-0} -lt 120 ]] && echo "${c}a" || echo "$c"
}

find_toolkit() {
  if [[ -z ${CUDA_HOME:-} ]]; then
    local nvcc
    nvcc=$(command -v nvcc || ls /usr/local/cuda*/bin/nvcc 2>/dev/null | tail -1)
    [[ -n $nvcc ]] || { echo "run.sh: no nvcc; set CUDA_HOME" >&2; exit 1; }
    CUDA_HOME=$(cd "$(dirname "$(readlink -f "$nvcc")")/.." && pwd)
  fi
  export CUDA_HOME
  # cuBLASLt from the toolkit, or the one that PyTorch brings.
  if [[ -z ${LONGLIVE_CUBLASLT:-} ]]; then
    local lt
    lt=$(ls "$CUDA_HOME"/lib64/libcublasLt.so.1[23] "$CUDA_HOME"/lib/libcublasLt.so.1[23] 2>/dev/null | tail -1)
    [[ -n $lt ]] || lt=$(python3 -c 'import glob,site;print(next(iter(sorted(f for d in site.getsitepackages() for f in glob.glob(d+"/nvidia/*/lib/libcublasLt.so.1[23]"))),""))' 2>/dev/null)
    [[ -n $lt ]] && export LONGLIVE_CUBLASLT=$lt
  fi
  echo "nvcc: $CUDA_HOME; cuBLASLt: ${LONGLIVE_CUBLASLT:-none}"
}

step() {  # step NAME COMMAND...: shows the end of the output, keeps all of it, remembers a failure
  local name=$1
  shift
  echo "== $name"
  if "$@" >"$out/$name.log" 2>&1; then
    tail -n 40 "$out/$name.log"
  else
    tail -n 60 "$out/$name.log"
    echo "== $name FAILED"
    failed+=("$name")
  fi
}

make_native() { make -C "$native" CUDA=1 CUDA_HOME="$CUDA_HOME" CUDA_ARCHS="${ARCH:-$(architecture)}" -j"$(nproc)" "$@"; }

kernel_report() {
  grep -hE 'Compiling entry|spill|registers' "$native"/build/obj/ops/cuda/*.log | (c++filt 2>/dev/null || cat) >"$out/registers.txt"
  echo "kernels that spill:"
  grep -B1 -E '[1-9][0-9]* bytes spill' "$out/registers.txt" || echo "  none"
}

stage_build() {
  step build make_native parity build/bench_gpu
  step registers kernel_report
}
stage_parity() {
  local p
  for p in fp32 bf16; do
    step "parity-$p-portable" "$native/build/parity" "$golden" --device cuda --precision $p --isa portable
    step "parity-$p" "$native/build/parity" "$golden" --device cuda --precision $p
  done
  step parity-bf16-plain "$native/build/parity" "$golden" --device cuda --precision bf16 --isa plain
  step parity-int8 "$native/build/parity" "$golden" --device cuda --precision int8
}
stage_sanitize() {
  local tool
  for tool in memcheck racecheck; do
    step "sanitize-$tool-parity" compute-sanitizer --tool $tool --error-exitcode 9 "$native/build/parity" "$golden" --device cuda --precision bf16 --only dit_block_hd128 --isa portable
    step "sanitize-$tool-bench" compute-sanitizer --tool $tool --error-exitcode 9 "$native/build/bench_gpu" --small --blocks 1
  done
}
bench() { "$native/build/bench_gpu" "$@"; }
stage_kernels() {
  step kernels-bf16 bench --only ceilings --json "$out/ceilings-bf16.json"
  step kernels-bf16-table bench --only kernels --json "$out/kernels-bf16.json"
  step kernels-bf16-portable bench --only kernels --isa portable --json "$out/kernels-bf16-portable.json"
  step kernels-int8 bench --only kernels --precision int8 --json "$out/kernels-int8.json"
}
stage_tiny() {
  step tiny-bf16 bench --only tiny --blocks "$blocks" --json "$out/tiny-bf16.json"
  step tiny-int8 bench --only tiny --precision int8 --blocks $((blocks / 8 + 1)) --json "$out/tiny-int8.json"
}
stage_full() { step full-bf16 bench --only full --blocks $((blocks / 4 + 1)) --json "$out/full-bf16.json"; }
stage_torch() { step torch python3 "$root/bench/gpu/torch_model.py" --json "$out/torch.json"; }
stage_collect() {
  OUT_DIR=$out RESULTS=$root/bench/results GPU=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1) python3 - <<'PY'
import datetime, json, os, pathlib, re
out, results = pathlib.Path(os.environ["OUT_DIR"]), pathlib.Path(os.environ["RESULTS"])
parts = {p.stem: json.loads(p.read_text()) for p in sorted(out.glob("*.json")) if not p.stem.startswith("gpu-")}
name, _, driver = os.environ["GPU"].partition(", ")
doc = {"device": name, "driver": driver, "date": datetime.date.today().isoformat(), "parts": parts}
file = f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{doc['date']}.json"
results.mkdir(parents=True, exist_ok=True)
for folder in (out, results):
    (folder / file).write_text(json.dumps(doc, indent=1) + "\n")
print("wrote", file)
PY
}

stages=("$@")
[[ ${#stages[@]} -gt 0 ]] || stages=(build parity sanitize kernels tiny full torch collect)
for s in "${stages[@]}"; do
  declare -F "stage_$s" >/dev/null || { echo "run.sh: no stage $s" >&2; exit 2; }
done
find_toolkit
for s in "${stages[@]}"; do "stage_$s"; done
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
