#!/usr/bin/env bash
# Makes versions 0.9.0 (preset pocket-0.9) and 0.9.3 (PRESET=pocket-0.9.3) on a machine with a GPU, in calls that each end in time and leave their results in OUT:
#
#   training/gpu-09.sh try [MINUTES]              four VAEs side by side for a minute each: 16 or 32 numbers, plain or wider
#   training/gpu-09.sh time [--set TOML]...       milliseconds of a step of the VAE, plain and compiled, and where they go
#   training/gpu-09.sh vae MINUTES [--set TOML]...    encoder and decoder
#   training/gpu-09.sh dit MINUTES|rest [--set TOML]...    clips (about 2 minutes more) and DiT, with the VAE of an earlier call; rest: what LIMIT leaves
#
# Calls go on from what GIVEN, a folder, holds of earlier ones: vae.safetensors, latents.json, dit.safetensors; `dit` needs the first two. --set
# goes to longlive_training.run; `dit` has to be given the sizes that `vae` was (--set preset.vae.z_dim=16). Environment: PACKAGE (what a run
# begins with, default models/pocket; 0.9.0 began with 0.8.0, 0.9.3 with 0.9.2), PRESET (pocket-0.9; pocket-0.9.2 and 0.9.3 train on the DiT of
# PACKAGE or GIVEN), RUN (folder of the run), OUT (at most 8 files of at most 16 MB), GIVEN, PYTHON, LIMIT (minutes of
# `dit` after which it saves what there is; let nothing end it from outside before that), PROCESSES (that train the DiT on the one GPU, default
# 2: roll-outs are many small kernels).
#
# On an H200 with 16 cores: 0.115 s per step of the VAE (4 pictures, widths 1 2 6 6), clips 100 s, 0.2 to 0.5 s per step of the DiT.
set -uo pipefail

cd "$(dirname "$0")"
preset=${PRESET:-pocket-0.9}
run=${RUN:-$PWD/runs/$preset}
out=${OUT:-$run/packed}
given=${GIVEN:-$PWD/runs/given-0.9}
python=${PYTHON:-python3}
processes=1
command=${1:-}
shift $(($# > 0))
mkdir -p "$run" "$out"
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

begin() { # FOLDER
  "$python" -m longlive_training.start --package "${PACKAGE:-../models/pocket}" --codec configs/pocket-0.9/codec.safetensors --out "$1"
  for part in vae dit; do [[ ! -e $given/$part.safetensors ]] || cp "$given/$part.safetensors" "$1/start"; done
}

train() { # FOLDER ARGUMENT...; in `processes` processes
  local folder=$1 launch=("$python")
  shift
  ((processes == 1)) || launch+=(-m torch.distributed.run --nproc-per-node "$processes")
  "${launch[@]}" -m longlive_training.run --preset "$preset" --out "$folder" --device "${DEVICE:-cuda}" "$@" 2>&1 | tee -a "$folder/log.txt"
}

half() { # STAGE NAME: weights as a package stores them
  [[ -e $run/$1/$2.safetensors ]] || return 0
  "$python" -c 'import sys
from pathlib import Path
from safetensors.torch import load_file, save_file
from longlive_training.export import stored
save_file(stored(load_file(Path(sys.argv[1]))), sys.argv[2])' "$run/$1/$2.safetensors" "$out/$2.safetensors"
}

pack() { # STAGE...: reports, curves and the log
  local stage files=(log.txt)
  for stage in "$@"; do
    for file in "$run/$stage"/report.json "$run/$stage"/*.png; do [[ -e $file ]] && files+=("$stage/${file##*/}"); done
  done
  tar -czf "$out/reports.tar.gz" -C "$run" "${files[@]}"
  ls -l "$out"
}

case $command in
try)
  minutes=${1:-0.9}
  for variant in "16 1,2,4,4" "32 1,2,4,4" "16 1,2,6,6" "32 1,2,6,6"; do
    read -r channels widths <<<"$variant"
    folder=$run/try/$channels-${widths//,/}
    (
      rm -rf "$folder" && mkdir -p "$folder" && begin "$folder"
      train "$folder" --stage vae --minutes "$(awk "BEGIN { print $minutes + 0.4 }")" --set "preset.vae.z_dim=$channels" --set "preset.vae.dim_mult=[$widths]" \
        --set "vae.joint.minutes=$minutes" --set vae.joint.log_every=25 --set vae.watch=50 --set vae.pool=100 --set vae.fresh=1 --set vae.workers=4 >/dev/null
    ) &
  done
  wait
  for log in "$run"/try/*/log.txt; do
    name=$(basename "$(dirname "$log")")
    cp "$log" "$out/try-$name.txt"
    echo "== $name"
    grep -E "dB|rror" "$log" | tail -n 8
    tail -n 3 "$log" | cut -c1-160
  done
  ;;
time)
  begin "$run"
  "$python" - "$run" "${DEVICE:-cuda}" "$@" <<'EOF'
import dataclasses, shutil, sys, time
from pathlib import Path

import torch

from longlive_training.config import load
from longlive_training.context import Context
from longlive_training.stages.vae import vae

run, device = Path(sys.argv[1]), torch.device(sys.argv[2])
small = ["vae.pool=8", "vae.fresh=0", "vae.workers=1", "vae.watch=0", "vae.validation=2", "vae.joint.minutes=0", "vae.joint.log_every=10"]
settings = [a for a in sys.argv[3:] if a != "--set"]
torch.set_float32_matmul_precision("high")
torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True


def go(compiled, steps):
    preset, stages = load("pocket-0.9", device.type, settings=[*small, *settings, f"vae.joint.steps={steps}"])
    shutil.rmtree(run / "vae", ignore_errors=True)
    vae(Context(dataclasses.replace(preset, compile=compiled), "pocket-0.9", run, device, preset.seed), stages["vae"])


for compiled in (False, True):
    began = time.monotonic()
    go(compiled, 30)
    print(f"== {'compiled' if compiled else 'plain'}: {time.monotonic() - began:.1f} s for 30 steps and all else")
    if device.type == "cuda":
        print(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
        if not compiled:
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                go(False, 10)
            print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=18, max_name_column_width=70))
EOF
  ;;
vae)
  minutes=$1
  shift
  begin "$run"
  train "$run" --stage vae --minutes "$(awk "BEGIN { print $minutes + 0.7 }")" --set "vae.joint.minutes=$minutes" "$@"
  half vae vae
  cp "$run/vae/latents.json" "$out"
  pack vae
  ;;
dit)
  minutes=$1
  shift
  begin "$run"
  cp "$given/vae.safetensors" "$given/latents.json" "$run/vae" || exit
  train "$run" --stage clips --minutes "${LIMIT:-9}" "$@"
  processes=${PROCESSES:-2}
  left=$(awk "BEGIN { print ${LIMIT:-9} - $SECONDS / 60 }")
  [[ $minutes != rest ]] || minutes=$(awk "BEGIN { print $left - 0.4 }")  # to load and to save
  train "$run" --stage causal --minutes "$left" --set "causal.loop.minutes=$minutes" "$@"
  half causal dit
  pack clips causal
  ;;
*)
  sed -n '2,/^set/p' "$0" | sed '$d' >&2
  exit 2
  ;;
esac
