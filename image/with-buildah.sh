# How buildah, with skopeo, does what build.sh and publish.sh need; see with-docker.sh. To be sourced.
# shellcheck shell=bash

build() {
  buildah build --layers --timestamp "$1" "${@:2}" .
}

check_publisher() {
  command -v skopeo >/dev/null || fail "buildah publishes with skopeo beside it: apt-get install skopeo"
}

id_of() {
  buildah inspect --type image --format 'sha256:{{.FromImageID}}' "$1"
}

push() {
  buildah push ${insecure:+--tls-verify=false} "$1" "docker://$2"
}

digests_of() {
  digests_in skopeo inspect --raw ${insecure:+--tls-verify=false} "docker://$1"
}

push_list() {
  local part
  buildah manifest exists "$1" && buildah manifest rm "$1"
  buildah manifest create "$1" && for part in "${@:2}"; do
    buildah manifest add ${insecure:+--tls-verify=false} "$1" "docker://$part" || return
  done && buildah manifest push ${insecure:+--tls-verify=false} --rm "$1" "docker://$1"
}
