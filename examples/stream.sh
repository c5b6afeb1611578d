#!/bin/sh
# sh examples/stream.sh "a red fox runs on the grass by day"
# Starts a session and prints its events, with curl alone. A connection that breaks is made anew behind the last event that came.
set -eu
url=${LONGLIVE_URL:-http://localhost:4000}
prompt=${1:-a red fox runs on the grass by day}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Of a string in JSON.
escaped() { printf %s "$1" | tr '\n\t' '  ' | sed 's/[\\"]/\\&/g'; }
post() { curl -sS -N "$url/graphql" -H 'content-type: application/json' -H "authorization: Bearer ${LONGLIVE_TOKEN:-}" "$@"; }

answer=$(post -d '{"query": "mutation ($prompt: String!) { createSession(input: {prompt: $prompt, maxSeconds: 3}) { ... on Session { id } ... on Error { message } } }",
  "variables": {"prompt": "'"$(escaped "$prompt")"'"}}')
id=$(printf %s "$answer" | sed -n 's/.*"id":"\([^"]*\)".*/\1/p')
[ -n "$id" ] || { printf '%s\n' "$answer" >&2; exit 1; }

until grep -q '^event: complete' "$log"; do
  last=$(sed -n 's/^id: //p' "$log" | tail -n 1)
  post -H 'accept: text/event-stream' -H "last-event-id: $last" -d '{"query": "subscription ($id: ID!) { sessionStream(sessionId: $id) { __typename ... on SessionEvent { cursor at } ... on FrameChunk { index url } ... on StateChanged { state } ... on SessionEnded { state } ... on Error { message } } }",
    "variables": {"id": "'"$id"'"}}' | tee -a "$log" || sleep 1
done
