#!/usr/bin/env bash
# Starts an image as docs/image.md says to, without a network, and stops it: it has to tell its version, to answer
# /hc, and to end with status 0.
#   image/try.sh NAME
# BUILDER is that of build.sh: docker runs what docker built, podman what buildah built. PATIENCE is how many seconds
# it may take to answer.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=image/common.sh
. image/common.sh

[ $# -eq 1 ] || fail "usage: image/try.sh NAME"
image=$1
builder=$(find_builder)
runner=${builder/buildah/podman}
command -v "$runner" >/dev/null ||
  fail "To start what buildah has built takes podman, which is not here: apt-get install podman"
options=(--network none --read-only --cap-drop all --security-opt no-new-privileges)
id=''
trap '[ -z "$id" ] || "$runner" rm --force --volumes "$id" >/dev/null' EXIT

# From within, so that no port of this machine is taken. `trouble` is why the last request failed.
answers() {
  trouble=$("$runner" exec "$id" /opt/hello/bin/python -c \
    'import urllib.request; urllib.request.urlopen("http://127.0.0.1:5000/hc", timeout=5)' 2>&1)
}

failed() {
  "$runner" logs "$id" >&2
  fail "$image $1: see above."
}

version=$("$runner" run --rm "${options[@]}" "$image" --version) || fail "$image does not tell its version: see above."
id=$("$runner" run --detach "${options[@]}" --stop-timeout 60 --volume /data --env HELLO_OPEN=true \
  --env HELLO_DRAIN_SECONDS=0 "$image") || fail "$image can't be started: see above."
deadline=$((SECONDS + ${PATIENCE:-60}))
until answers; do
  [ "$("$runner" inspect --format '{{.State.Running}}' "$id")" = true ] || failed "ended before it answered"
  [ "$SECONDS" -lt "$deadline" ] || failed "runs and does not answer (${trouble##*$'\n'})"
  sleep 0.2
done
"$runner" stop "$id" >/dev/null
status=$("$runner" wait "$id")
[ "$status" = 0 ] || failed "was stopped, and ended with status $status"
echo "$image starts, as version $version, answers and stops" >&2
