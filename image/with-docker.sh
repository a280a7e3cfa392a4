# How docker does what build.sh and publish.sh need; with-buildah.sh has the same functions. To be sourced.
# shellcheck shell=bash

# build DATE ARGUMENT…: builds; all files and the image have that date, in seconds since 1970, as far as docker can.
build() {
  SOURCE_DATE_EPOCH=$1 docker build --provenance=false "${@:2}" .
}

# check_publisher: sees whether all is there that publishing takes beyond building.
check_publisher() {
  docker buildx version >/dev/null 2>&1 ||
    fail "docker publishes with its plugin buildx: https://docs.docker.com/go/buildx/ (or BUILDER=buildah)"
}

# id_of NAME: prints the digest of a local image's configuration, or with Docker's newer store of its manifest.
id_of() {
  docker image inspect --format '{{.Id}}' "$1"
}

# push NAME REFERENCE: pushes a local image.
push() {
  docker tag "$1" "$2" && docker push "$2"
}

# digests_of REFERENCE: prints the digest of what the registry has there, then those that it refers to. `docker manifest
# inspect` would tell of a list those of its parts alone.
digests_of() {
  digests_in docker buildx imagetools inspect --raw "$1"
}

# push_list REFERENCE PART…: pushes a list of what the registry has already.
push_list() {
  docker buildx imagetools create --tag "$@"
}
