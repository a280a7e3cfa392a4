#!/usr/bin/env bash
# Makes the AMI of the commit that is checked out, by Packer: ARCHITECTURE=arm64 (the default) or x86_64, in AWS_REGION.
set -euo pipefail
cd "$(dirname "$0")/.."
architecture=${ARCHITECTURE:-arm64}
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}

die() { echo "make ami: $*" >&2; exit 1; }

command -v packer >/dev/null || die "Packer is not installed: https://developer.hashicorp.com/packer/install"
[ -n "$region" ] || die "set AWS_REGION to the region that the AMI is for"
[ -z "$(git status --porcelain)" ] || die "there are changes that are not committed: an AMI is of a commit"
commit=$(git rev-parse HEAD)
bundle=$(mktemp -d)
trap 'rm -rf "$bundle"' EXIT
image/bundle.sh "$bundle/bundle" "$architecture"
packer init image/hello.pkr.hcl
packer build -color=false -var "commit=$commit" -var "bundle=$bundle/bundle" -var "architecture=$architecture" \
  -var "region=$region" image/hello.pkr.hcl
