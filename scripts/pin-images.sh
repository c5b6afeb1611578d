#!/usr/bin/env bash
# Puts the digest that each image's tag has today behind the tag, in Dockerfile and compose.yaml: name:tag@sha256:... It needs a network
# and `docker buildx`; run it before a release, build, and commit what it changed. Running it again renews the digests.
set -euo pipefail
cd "$(dirname "$0")/.."

digest_of() { docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}'; }

images() { sed -nE 's/^(ARG [A-Z_]+_IMAGE=|    image: )([^ @]+:[^ @]+)(@sha256:[0-9a-f]{64})?$/\2/p' Dockerfile compose.yaml | sort -u; }

for image in $(images); do
  digest=$(digest_of "$image")
  [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "$image has no digest: $digest" >&2; exit 1; }
  sed -i -E "s#^(ARG [A-Z_]+_IMAGE=|    image: )${image}(@sha256:[0-9a-f]{64})?\$#\1${image}@${digest}#" Dockerfile compose.yaml
  echo "$image@$digest"
done
