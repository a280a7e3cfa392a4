#!/usr/bin/env bash
# Builds the image of the commit that is checked out, as hello:<commit>.
#   image/build.sh [--arch amd64|arm64]
# BUILDER (docker or buildah) chooses the tool, BASE another base than that of the Dockerfile.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=image/common.sh
. image/common.sh

architecture=$(uname -m)
while [ $# -gt 0 ]; do
  case $1 in
    --arch) architecture=${2:?--arch needs amd64 or arm64} && shift 2 ;;
    *) fail "usage: image/build.sh [--arch amd64|arm64]" ;;
  esac
done
architecture=$(find_architecture "$architecture")
commit=$(find_commit)
builder=$(find_builder)
# shellcheck source=image/with-docker.sh
. "image/with-$builder.sh"

# One date for all commits, so that the layers of dependencies are the same ones; no ZIP file, such as a wheel, can
# have an earlier one. When the commit was made is in a label.
date=315532800
echo "building hello:$commit for $architecture with $builder" >&2
build "$date" --platform "linux/$architecture" --file image/Dockerfile --tag "hello:$commit" \
  ${BASE:+--build-arg "BASE=$BASE"} --build-arg "COMMIT=$commit" \
  --build-arg "CREATED=$(git show --no-patch --format=%cI)" >&2 ||
  fail "The image was not built: see above. For another architecture than this machine's, $(uname -m), its programs" \
    "have to run here (apt-get install qemu-user-static), or build it where they do. What the service on AWS runs on" \
    "is \`architecture\` in infra/terraform.tfvars."
echo "hello:$commit"
