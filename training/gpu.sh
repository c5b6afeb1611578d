#!/usr/bin/env bash
# Trains the pocket preset on a machine with a GPU of the H100 class: 25 minutes for all stages. It stops in time, saves, and goes on
# where it was when it is started again, so it can be run in slices:
#
#   training/gpu.sh [MINUTES]        this slice's time (default 9); exit status 75: not finished, start it again
#
# Needs Python with training/requirements.txt; downloads nothing. Environment: RUN (folder of the run, default training/runs/pocket),
# OUT (where the results are packed, default RUN/packed), PYTHON, PRESET (default pocket).
# After every slice OUT holds at most 8 files of at most 16 MB: the package in two parts, the students of the stages before (for
# the comparison with and without long tuning), reports and curves, the log.
set -uo pipefail

cd "$(dirname "$0")"
preset=${PRESET:-pocket}
run=${RUN:-$PWD/runs/$preset}
out=${OUT:-$run/packed}
python=${PYTHON:-python3}
mkdir -p "$run" "$out"

export PYTHONUNBUFFERED=1
# Workers of the renderer and the main process share the cores; each needs one thread.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
"$python" -m longlive_training.run --preset "$preset" --out "$run" --minutes "${1:-9}" 2>&1 | tee -a "$run/log.txt"
status=${PIPESTATUS[0]}

pack() { # NAME FILE...: a compressed archive of those files of the run that exist; wildcards are the run's
  local name=$1
  shift
  (
    cd "$run" || exit
    shopt -s nullglob
    present=()
    for file in "$@"; do for found in $file; do [[ -f $found ]] && present+=("$found"); done; done
    ((${#present[@]})) && tar -czf "$out/$name.tar.gz" "${present[@]}"
  )
}

half() { # STAGE: the student of a stage in bfloat16
  [[ -e $run/$1/dit.safetensors ]] || return 0
  "$python" - "$run/$1/dit.safetensors" "$out/$1.safetensors" <<'EOF'
import sys
from pathlib import Path
from safetensors.torch import load_file, save_file
from longlive_training.export import stored
save_file(stored(load_file(Path(sys.argv[1]))), sys.argv[2])
EOF
}

pack reports '*/report.json' '*/*.png' log.txt export/evaluation.json
pack package 'export/*/*.json' 'export/*/README.md' 'export/*/dit.safetensors' 'export/*/text_encoder.safetensors'
pack vae vae/vae.safetensors world/codec.safetensors text/text_encoder.safetensors world/tokenizer.json
for stage in causal distill long; do half "$stage"; done

large=$(find "$out" -type f -size +16M)
[[ -n $large ]] && echo "larger than 16 MB: $large" >&2
[[ $(find "$out" -type f | wc -l) -le 8 ]] || echo "more than 8 files in $out" >&2
ls -l "$out"
exit "$status"
