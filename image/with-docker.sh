# How docker does what build.sh and publish.sh need; with-buildah.sh has the same functions. To be sourced.
# shellcheck shell=bash

# build DATE ARGUMENT…: builds; all files and the image have that date, in seconds since 1970, as far as docker can.
build() {
  SOURCE_DATE_EPOCH=$1 docker build --provenance=false "${@:2}" .
}

# id_of NAME: prints the digest of a local image's configuration, or with Docker's newer store of its manifest.
id_of() {
  docker image inspect --format '{{.Id}}' "$1"
}

# push NAME REFERENCE: pushes a local image.
push() {
  docker tag "$1" "$2" && docker push "$2"
}

# digests_of REFERENCE: prints the digest of what the registry has there, then those that it refers to.
digests_of() {
  local told
  told=$(docker manifest inspect --verbose ${insecure:+--insecure} "$1") && grep -oE 'sha256:[0-9a-f]{64}' <<<"$told"
}

# push_list REFERENCE PART…: pushes a list of what the registry has already.
push_list() {
  docker manifest create ${insecure:+--insecure} "$@" && docker manifest push --purge ${insecure:+--insecure} "$1"
}
