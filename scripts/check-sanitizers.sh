#!/usr/bin/env bash
# The native core under sanitizers, and libFuzzer's targets for what reads strangers' bytes.
#
#   scripts/check-sanitizers.sh             bounded, as in CI: ThreadSanitizer over the thread pool, the addon's call thread and a model's
#                                           calls on it; AddressSanitizer and UndefinedBehaviorSanitizer over every native test, the addon
#                                           in Node, and every target of libFuzzer for 20 s
#   scripts/check-sanitizers.sh 3600 [TARGET...]   fuzzes for so long, all targets (native/test/fuzz/*.cpp) or only these
#   ALL=1 scripts/check-sanitizers.sh       also the addon in Node under ThreadSanitizer
#
# Kernels of instruction sets are the ordinary build's, unchecked; the portable ones are checked.
# Needs g++, and clang with its runtimes (Debian: clang libclang-rt-dev).
set -euo pipefail
cd "$(dirname "$0")/../native"
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
each=${1:-20}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .cpp test/fuzz/*.cpp)
export UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS="halt_on_error=1:suppressions=$PWD/test/tsan.supp"
asan=build/asan

say() { printf -- '-- %s (%ss)\n' "$1" "$SECONDS"; }

build() { make -s -j"$jobs" OPTIMISE=-O1 "$@"; }
checked() { build CXX=clang++ BUILD=$asan SANITIZE=address,undefined,float-cast-overflow,fuzzer-no-link "${@/#/$asan/}"; }

# What a target found lies beside the seeds for the next time; an input that fails it is $asan/TARGET-crash-...
fuzz() {
  local seeds=("$asan/corpus/$1")
  [ ! -d "test/fuzz/corpus/$1" ] || seeds+=("test/fuzz/corpus/$1")
  mkdir -p "$asan/found/$1"
  ASAN_OPTIONS=detect_stack_use_after_return=1 timeout $((each + 60)) "$asan/fuzz/$1" -max_total_time="$each" -timeout=25 -rss_limit_mb=2048 \
    -max_len=65536 -seed=1 -verbosity=0 -print_final_stats=1 -artifact_prefix="$asan/$1-" "$asan/found/$1" "${seeds[@]}" > "$asan/$1.log" 2>&1 ||
    { cat "$asan/$1.log"; return 1; }
  echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$asan/$1.log") inputs"
}

# Side by side, each as long as it would be alone.
fuzz_all() {
  local target pids=() failed=0
  for target in "${targets[@]}"; do fuzz "$target" & pids+=($!); done
  for target in "${pids[@]}"; do wait "$target" || failed=1; done
  return $failed
}

# The tests in many small shares, as many at a time as there are cores.
native_tests() {
  seq 0 15 | xargs -P "$jobs" -I{} sh -c 'timeout 600 $0/test --share={}/16 > $0/test-{}.log 2>&1 || { tail -50 $0/test-{}.log; exit 1; }' "$asan"
  tail -qn 1 $asan/test-{0..15}.log | awk '{ tests += $1 } END { print tests " tests" }'
}

# addon_in_node FOLDER LIBRARY: with the addon of a sanitized build. Node itself is not built for this, and ends without giving everything
# back: of races and leaks those count whose innermost frame, below allocators, is the core's. An error of memory aborts.
addon_in_node() {
  local options="abort_on_error=1:exitcode=0:log_path=$PWD/$1/report"
  rm -f "$1"/report.*
  LD_PRELOAD=$2 LONGLIVE_TEST_ADDON=$PWD/$1/longlive.node LONGLIVE_TEST_PACKAGE=$PWD/$asan/package \
    ASAN_OPTIONS="use_sigaltstack=0:quarantine_size_mb=16:$options" TSAN_OPTIONS=$options \
    timeout 400 node --expose-gc test/addon.test.mjs > "$1/addon.log" 2>&1 || { cat "$1/addon.log" "$1"/report.*; return 1; }
  reports_spare_the_core "$1"/report.*
}

reports_spare_the_core() {
  [ -e "$1" ] || return 0
  awk '!/^ *#/ { seen = 0; next } !seen && /longlive::/ { found = 1 } /longlive::|v8::|node::|napi_|uv_|node\+/ { seen = 1 } END { exit found }' "$@" ||
    { cat "$@"; return 1; }
}

make -s -j"$jobs" isa
if [ $# -eq 0 ]; then
  build CXX=g++ BUILD=build/tsan SANITIZE=thread build/tsan/test_threads
  say 'built for ThreadSanitizer'
  timeout 240 build/tsan/test_threads
  say 'ThreadSanitizer: the pool, the call thread, the calls of a model'
fi

checked make_corpus make_package longlive.node "${targets[@]/#/fuzz/}"
$asan/make_corpus $asan/corpus
$asan/make_package $asan/package
say 'built for AddressSanitizer and UndefinedBehaviorSanitizer'
fuzz_all
say "libFuzzer: $each s each"
if [ $# -eq 0 ]; then
  addon_in_node $asan "$(clang++ -print-file-name="libclang_rt.asan-$(uname -m).so")"
  say 'AddressSanitizer: the addon in Node'
  checked test
  native_tests
  say 'AddressSanitizer: every native test'
fi
if [ -n "${ALL:-}" ]; then
  build CXX=g++ BUILD=build/tsan SANITIZE=thread build/tsan/longlive.node
  addon_in_node build/tsan "$(g++ -print-file-name=libtsan.so)"
  say 'ThreadSanitizer: the addon in Node'
fi
