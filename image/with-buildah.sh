# How buildah, with skopeo, does what build.sh and publish.sh need; see with-docker.sh. To be sourced.
# shellcheck shell=bash

build() {
  buildah build --layers --timestamp "$1" "${@:2}" .
}

id_of() {
  buildah inspect --type image --format 'sha256:{{.FromImageID}}' "$1"
}

push() {
  buildah push ${insecure:+--tls-verify=false} "$1" "docker://$2"
}

digests_of() {
  local raw
  command -v skopeo >/dev/null || fail "buildah publishes with skopeo beside it: apt-get install skopeo"
  # The dot keeps the line end that the manifest may have, and its digest covers.
  raw=$(skopeo inspect --raw ${insecure:+--tls-verify=false} "docker://$1" && echo .) || return
  printf %s "${raw%.}" | sha256sum | sed -E 's/^(\w+).*/sha256:\1/'
  grep -oE 'sha256:[0-9a-f]{64}' <<<"$raw"
}

push_list() {
  local part
  buildah manifest exists "$1" && buildah manifest rm "$1"
  buildah manifest create "$1" && for part in "${@:2}"; do
    buildah manifest add ${insecure:+--tls-verify=false} "$1" "docker://$part" || return
  done && buildah manifest push ${insecure:+--tls-verify=false} --rm "$1" "docker://$1"
}
