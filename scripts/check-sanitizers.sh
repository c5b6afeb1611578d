#!/usr/bin/env bash
# The native core under sanitizers, and libFuzzer's targets for what reads strangers' bytes.
#
#   scripts/check-sanitizers.sh    bounded, as in CI: ThreadSanitizer over the thread pool and the addon's call thread;
#                                  AddressSanitizer and UndefinedBehaviorSanitizer over the fuzzed readers
#   ALL=1                          also checkpoints fuzzed, and every native test under AddressSanitizer
#   SECONDS_EACH=1200              fuzzes longer than 20 s a target
#
# Needs g++, and clang with its runtimes (Debian: clang libclang-rt-dev).
set -euo pipefail
cd "$(dirname "$0")/../native"
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
each=${SECONDS_EACH:-20}
export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1

say() { printf -- '-- %s (%ss)\n' "$1" "$SECONDS"; }

build() { make -s -j"$jobs" OPTIMISE=-O1 "$@"; }

fuzz() {
  mkdir -p "build/asan/found/$1"
  timeout $((each + 60)) "build/asan/fuzz/$1" -max_total_time="$each" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -seed=1 -verbosity=0 \
    -print_final_stats=1 -artifact_prefix=build/asan/ "build/asan/found/$1" "${@:2}"
}

build CXX=g++ BUILD=build/tsan SANITIZE=thread build/tsan/test_threads
timeout 120 build/tsan/test_threads
say 'ThreadSanitizer: the pool and the call thread'

asan=(CXX=clang++ BUILD=build/asan SANITIZE=address,undefined,fuzzer-no-link)
build "${asan[@]}" build/asan/fuzz/safetensors build/asan/fuzz/json
fuzz safetensors test/fuzz/corpus/safetensors
fuzz json test/fuzz/corpus/json
say "libFuzzer: $each s each"

if [ -n "${ALL:-}" ]; then
  build "${asan[@]}" build/asan/fuzz/checkpoint build/asan/make_corpus
  build/asan/make_corpus build/asan/corpus
  fuzz checkpoint build/asan/corpus/checkpoint
  build CXX=g++ BUILD=build/asan-tests SANITIZE=address,undefined build/asan-tests/test
  build/asan-tests/test
  say 'checkpoints, and every native test'
fi
