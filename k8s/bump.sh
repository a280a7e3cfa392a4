#!/usr/bin/env bash
# Chooses what an overlay runs: writes an image of its registry into its release/kustomization.yaml.
#
#   k8s/bump.sh eks              the newest commit, from the one that is checked out back, that has an image
#   k8s/bump.sh gke SHA          the image of this commit; 7 characters are enough. So one rolls back.
#
# Images have their commit's full SHA as their tag, as `make publish` gives it, in the repository that the file
# names. skopeo asks the registry, with the credentials of `skopeo login`, docker or podman.
# Nothing is written where there is none; nothing changes where the file is right already.

set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf '%s\n' "$*" >&2; }

die() {
  say "bump.sh: $*"
  exit 1
}

usage_error() {
  say "bump.sh: $* (--help tells more)"
  exit 2
}

# Prints the first value of a key of the release.
release() { sed -nE "s|^[ -]*$1: *\"?([^\"# ]+)\"?.*|\1|p" "$file" | head -n 1; }

# A registry on this very machine may speak HTTP, as for docker.
ask() {
  local insecure=()
  ! [[ $repository =~ ^(localhost|127\.[0-9.]+)(:[0-9]+)?/ ]] || insecure=(--tls-verify=false)
  skopeo "$1" "${insecure[@]}" "${@:2}"
}

# Sets `chosen` to the newest commit that has an image.
choose_newest() {
  local history
  history=$(git rev-list HEAD)
  chosen=$(grep -m 1 -Fx -f <(printf '%s\n' "${tags[@]}") <<<"$history") ||
    die "$repository has no image of a commit that is checked out: git pull, or make publish. It has $((${#tags[@]})) of others."
}

# Sets `chosen` to the commit that begins with what was asked for.
choose() {
  local matching
  matching=$(printf '%s\n' "${tags[@]}" | grep "^$1") ||
    die "$repository has no image of $1: is its build done?"
  [[ $matching != *$'\n'* ]] || die "$1 begins more than one commit; give more of it:"$'\n'"$matching"
  chosen=$matching
}

write() {
  local old
  old=$(release app.kubernetes.io/version)
  if [[ $(release digest) == "$digest" && $old == "$chosen" ]]; then
    say "unchanged: $old ($file)"
    return
  fi
  temporary=$(mktemp "$file.XXXXXX")
  trap 'rm -f "$temporary"' EXIT
  sed -E "s|^( *digest:).*|\1 $digest|; s|^( *app.kubernetes.io/version:).*|\1 \"$chosen\"|" "$file" >"$temporary"
  chmod 644 "$temporary"
  mv "$temporary" "$file"
  say "old: $old"
  say "new: $chosen ($digest)"
  say "to apply it: kubectl apply -k k8s/overlays/$overlay && kubectl -n hello rollout status deployment/hello"
}

overlay=${1:-} wanted=${2:-}
case $overlay in
-h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' bump.sh && exit ;;
'' | -*) usage_error "name an overlay: $(basename -a overlays/* | paste -sd ' ')" ;;
esac
(($# <= 2)) || usage_error "one version at a time"
file=overlays/$overlay/release/kustomization.yaml
[[ $overlay != */* && -f $file ]] || usage_error "no such overlay: $overlay. There is $(basename -a overlays/* | paste -sd ' ')"
wanted=${wanted,,}
[[ ! $wanted || $wanted =~ ^[0-9a-f]{7,40}$ ]] ||
  usage_error "not the SHA of a commit: $2. 7 to 40 of 0-9 and a-f; of a branch or tag, git rev-parse prints it."
for command in git jq skopeo; do
  type -P "$command" >/dev/null || die "not installed: $command"
done
repository=$(release newName)
[[ $repository ]] || die "$file names no repository: write newName."
listed=$(ask list-tags "docker://$repository") ||
  die "$repository can't be read: is it there, and are you signed in to its registry? docs/kubernetes.md tells how."
mapfile -t tags < <(jq -r '.Tags[] | select(test("^[0-9a-f]{40}$"))' <<<"$listed")
((${#tags[@]})) || die "$repository has no image of a commit yet: make publish, or let the build on main push one."
if [[ $wanted ]]; then choose "$wanted"; else choose_newest; fi
# The digest of the manifest as it is: where it lists several architectures, each node takes its own.
digest=sha256:$(ask inspect --raw "docker://$repository:$chosen" | sha256sum | cut -d ' ' -f 1)
write
