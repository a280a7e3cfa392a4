# What build.sh, try.sh and publish.sh share. To be sourced, from the root of the repository.
# shellcheck shell=bash

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

# Prints the commit; refuses a tree that is not what the commit says, for nobody could build such an image again.
find_commit() {
  local commit changed
  commit=$(git rev-parse --verify --quiet HEAD) || fail "$PWD has no commit, and an image is of a commit."
  changed=$(git status --porcelain --untracked-files=all)
  [ -z "$changed" ] || fail "The tree is not what commit $commit says:" "$changed" \
    "An image is tagged with its commit. Commit these, stash them or remove them first."
  echo "$commit"
}

# Prints docker where its daemon answers, else buildah; BUILDER chooses.
find_builder() {
  local builder=${BUILDER:-}
  if [ -n "$builder" ]; then
    [[ $builder =~ ^(docker|buildah)$ ]] || fail "BUILDER is $builder; it can be docker or buildah."
    command -v "$builder" >/dev/null || fail "BUILDER is $builder, and there is no such command here."
  elif command -v docker >/dev/null && docker info >/dev/null 2>&1; then
    builder=docker
  elif command -v buildah >/dev/null; then
    builder=buildah
  else
    fail "Building the image takes docker, with a daemon that answers, or buildah; neither is here." \
      "On Debian and Ubuntu: apt-get install buildah skopeo"
  fi
  echo "$builder"
}

# Prints amd64 or arm64 for a name as Docker or `uname -m` has it.
find_architecture() {
  case $1 in
    amd64 | x86_64) echo amd64 ;;
    arm64 | aarch64) echo arm64 ;;
    *) fail "The architecture is $1; it can be amd64 or arm64." ;;
  esac
}

# digests_in COMMAND…: prints the digest of the manifest that the command prints, then those that it refers to.
digests_in() {
  local raw
  # The dot keeps the line end that the manifest may have, and its digest covers.
  raw=$("$@" && echo .) || return
  printf %s "${raw%.}" | sha256sum | sed -E 's/^(\w+).*/sha256:\1/'
  grep -oE 'sha256:[0-9a-f]{64}' <<<"$raw"
}
