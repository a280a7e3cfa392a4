#!/usr/bin/env bash
# Builds the image of the commit that is checked out, tries it by try.sh, pushes it with the commit as its tag, and
# prints its digest.
#   image/publish.sh [--arch amd64|arm64] [--part] [--untried]
#   image/publish.sh --list
# --part pushes it as <commit>-<architecture>; --list then makes <commit> of amd64 and arm64, without building.
# --untried pushes it without a try, where nothing can run containers.
# A tag is never moved: where it has the same image already, nothing is pushed, and where it has another, that is an error.
# REPOSITORY (registry/name) says where to, else Terraform's output does, and then also for which architecture;
# BUILDER and BASE are those of build.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=image/common.sh
. image/common.sh

architecture='' part='' list='' untried=''
while [ $# -gt 0 ]; do
  case $1 in
    --arch) architecture=${2:?--arch needs amd64 or arm64} && shift 2 ;;
    --part) part=yes && shift ;;
    --list) list=yes && shift ;;
    --untried) untried=yes && shift ;;
    *) fail "usage: image/publish.sh [--arch amd64|arm64] [--part] [--untried] | --list" ;;
  esac
done
[ -z "$architecture" ] || architecture=$(find_architecture "$architecture")
commit=$(find_commit)
builder=$(find_builder)
# shellcheck source=image/with-docker.sh
. "image/with-$builder.sh"
check_publisher

repository=${REPOSITORY:-}
if [ -z "$repository" ]; then
  # What Terraform made is reached with the credentials that it takes.
  # shellcheck source=infra/common.sh
  . infra/common.sh
  need jq
  use_credentials
  cd ..
  # -raw would print a warning in its place where there is no state.
  outputs=$(terraform -chdir=infra output -json 2>/dev/null || true)
  repository=$(jq -r '.repository_url.value // empty' <<<"$outputs")
  # What the service runs on need not be what this machine is.
  [ -n "$architecture" ] || architecture=$(jq -r '.architecture.value // empty | ascii_downcase' <<<"$outputs")
fi
architecture=$(find_architecture "${architecture:-$(uname -m)}")
[ -n "$repository" ] || fail "Nothing says where to publish: set REPOSITORY=registry/name, or make the infrastructure" \
  "first, for then Terraform's output repository_url does."
[[ $repository =~ ^[^/:]+(:[0-9]+)?(/[a-z0-9._-]+)+$ ]] ||
  fail "REPOSITORY is $repository; it has to be registry/name, without a tag."
registry=${repository%%/*}
insecure='' # as for docker, a registry on this very machine may speak HTTP
# shellcheck disable=SC2034 # with-buildah.sh reads it
if [[ $registry =~ ^(localhost|127\.[0-9.]+)(:[0-9]+)?$ ]]; then insecure=yes; fi
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

# ECR gives passwords for some hours. Other registries: `docker login` or `buildah login` beforehand.
log_in() {
  [[ $registry =~ ^[0-9]+\.dkr\.ecr(-fips)?\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$ ]] || return 0
  command -v aws >/dev/null || fail "To log in to $registry the AWS CLI is needed, and it is not here."
  aws ecr get-login-password --region "${BASH_REMATCH[2]}" |
    "$builder" login --username AWS --password-stdin "$registry" >&2 ||
    fail "Logging in to $registry failed: see above. Does \`aws sts get-caller-identity\` tell who you are? Expired" \
      "credentials: \`aws sso login\`, or new keys. Denied: the role needs ecr:GetAuthorizationToken."
}

# Prints the digest of what is published under a tag, then those that it refers to; nothing where the tag is free.
published() {
  digests_of "$repository:$1" 2>"$errors" && return
  grep -qiE "manifest unknown|name unknown|$1: not found\$" "$errors" ||
    fail "$registry does not tell what it has under $1:" "$(tail -3 "$errors")"
}

# publish TAG CONTENT…: prints the digest of the tag, which has or gets what the digests CONTENT say; `upload` pushes.
publish() {
  local tag=$1 content there
  there=$(published "$tag")
  if [ -z "$there" ]; then
    upload "$repository:$tag" >&2 || fail "Pushing $repository:$tag failed: see above."
    there=$(published "$tag")
  else
    for content in "${@:2}"; do
      grep -qxF "$content" <<<"$there" ||
        fail "$repository:$tag is there already, as ${there%%$'\n'*}, and is not what was made here of this commit." \
          "Was it made on another base, or by another tool? A tag is not moved; delete that image to replace it."
    done
    echo "$repository:$tag is there already, and is the same: nothing to push" >&2
  fi
  echo "${there%%$'\n'*}"
}

if [ -z "$list" ]; then
  image/build.sh --arch "$architecture" >/dev/null
  # Here, and not before: what is there already was tried when it was pushed.
  upload() {
    [ -n "$untried" ] || image/try.sh "hello:$commit" ||
      fail "hello:$commit is not pushed: nothing shows that it starts. Where nothing can run containers, --untried" \
        "pushes it all the same."
    push "hello:$commit" "$1"
  }
  log_in
  publish "$commit${part:+-$architecture}" "$(id_of "hello:$commit")"
else
  log_in
  digests=()
  for architecture in amd64 arm64; do
    there=$(published "$commit-$architecture")
    [ -n "$there" ] || fail "$repository:$commit-$architecture is not there: publish it first, with --part."
    digests+=("${there%%$'\n'*}")
  done
  upload() { push_list "$1" "${digests[@]/#/$repository@}"; }
  publish "$commit" "${digests[@]}"
fi
