#!/usr/bin/env bash
# Chooses what runs: writes an image of the registry into version.auto.tfvars.json, for `terraform apply`.
#
#   infra/bump.sh              the image that was pushed last
#   infra/bump.sh SHA          the image of this commit; 7 characters are enough
#   infra/bump.sh --previous   the image that was released before
#
# Images are those with a commit's full SHA as their tag, and of the service's architecture. With compute = "ec2"
# they are AMIs of this account, by their tags.
# Nothing is written where there is none; nothing changes where the file is right already.

# shellcheck source=infra/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=infra/ec2.sh
source ./ec2.sh

# Prints the images of commits, the newest first.
tagged() {
  aws ecr describe-images --repository-name "${output[repository_name]}" --filter tagStatus=TAGGED | jq '
    [.imageDetails[] | {digest: .imageDigest, pushed: .imagePushedAt,
                        commit: (.imageTags[]? | select(test("^[0-9a-f]{40}$")))}] | sort_by(.pushed) | reverse'
}

# Prints the architectures of an image. One without a list of manifests tells it in its configuration.
architectures() {
  local manifest config url
  manifest=$(aws ecr batch-get-image --repository-name "${output[repository_name]}" --image-ids "imageDigest=$1" \
    --accepted-media-types application/vnd.oci.image.index.v1+json application/vnd.oci.image.manifest.v1+json \
    application/vnd.docker.distribution.manifest.list.v2+json application/vnd.docker.distribution.manifest.v2+json |
    jq -r '.images[0].imageManifest // empty')
  [[ $manifest ]] || die "the registry has no manifest of $1."
  config=$(jq -r '.config.digest // empty' <<<"$manifest")
  if [[ ! $config ]]; then
    jq -r '.manifests[].platform.architecture' <<<"$manifest"
    return
  fi
  url=$(aws ecr get-download-url-for-layer --repository-name "${output[repository_name]}" --layer-digest "$config" |
    jq -r .downloadUrl)
  # The URL is signed, so that it is a secret: no argument of a process.
  curl --config - <<<"url = \"$url\"" --fail --silent --show-error --location --max-time 30 | jq -r .architecture
}

# Sets `chosen` to the first of the candidates that runs on the service's architecture.
choose() {
  local candidate found need=${output[architecture]}
  case $need in ARM64) need=arm64 ;; X86_64) need=$(ec2 && echo x86_64 || echo amd64) ;; esac
  while read -r candidate; do
    found=$(jq -r '.architecture // empty' <<<"$candidate")
    [[ $found ]] || found=$(architectures "$(jq -r .digest <<<"$candidate")")
    if grep -qx "$need" <<<"$found"; then
      chosen=$candidate
      return
    fi
    say "not for $need: $(jq -r .commit <<<"$candidate") is for $(paste -sd ' ' <<<"$found")"
  done < <(jq -c '.[]' <<<"$1")
  die "no image is for the service's architecture, $need: build one for it ($make), or set \`architecture\` to what there is."
}

# Prints the digest of what was released before: of the task definitions that deploy.sh has marked, the newest with
# another image than the chosen one. That is the one that runs, where ECS rolled back. Terraform keeps them all.
previous_digest() {
  local service running chosen_digest revisions name image
  service=$(aws ecs describe-services --cluster "${output[cluster]:-}" --services "${output[service]:-}")
  running=$(jq -r '.services[0].taskDefinition // empty' <<<"$service")
  [[ $running ]] || die "no service runs yet, so there is no version to go back to."
  chosen_digest=$(jq -r '.release.digest // empty' "$version_file" 2>/dev/null || true)
  [[ $chosen_digest ]] || chosen_digest=$(image_digest "$running" true)
  revisions=$(aws ecs list-task-definitions --family-prefix "$(basename "${running%:*}")" --sort DESC --max-items 100 |
    jq -r '.taskDefinitionArns[]')
  while read -r name; do
    [[ $name && ${name##*:} -le ${running##*:} ]] || continue
    image=$(image_digest "$name" 'any(.tags[]?; .key == "Released")')
    [[ $image && $image != "$chosen_digest" ]] || continue
    printf '%s' "$image"
    return
  done <<<"$revisions"
  die "no other version is marked as released, and one that is not may be a bad one; choose: bump.sh SHA."
}

# Prints the digest of the image of a task definition to which a filter of jq applies.
image_digest() {
  aws ecs describe-task-definition --task-definition "$1" --include TAGS |
    jq -r "select($2)"'.taskDefinition.containerDefinitions[0].image | split("@")[1] // empty'
}

write() {
  local new old temporary
  new=$(jq '{release: ({commit, digest, ami} | with_entries(select(.value)))}' <<<"$chosen")
  old=$(jq -r '.release.commit // "none"' "$version_file" 2>/dev/null) || old=none
  if [[ -f $version_file && $(<"$version_file") == "$new" ]]; then
    say "unchanged: $old ($version_file)"
    return
  fi
  temporary=$(mktemp "$version_file.XXXXXX")
  # shellcheck disable=SC2064 # now: the variable is local
  trap "rm -f '$temporary'" EXIT
  printf '%s\n' "$new" >"$temporary"
  chmod 644 "$temporary"
  sync "$temporary"
  mv "$temporary" "$version_file"
  say "old: $old"
  say "new: $(jq -r "$time_of"'"\(.commit) (\(.digest // .ami), pushed \(.pushed | time))"' <<<"$chosen")"
}

wanted=${1:-}
(($# <= 1)) || usage_error "one version at a time"
case $wanted in
-h | --help) help && exit ;;
'' | --previous) ;;
-*) usage_error "no such option: $wanted" ;;
*)
  wanted=${wanted,,}
  [[ $wanted =~ ^[0-9a-f]{7,40}$ ]] ||
    usage_error "not the SHA of a commit: $1. 7 to 40 of 0-9 and a-f; of a branch or tag, git rev-parse prints it."
  ;;
esac
need aws curl jq terraform
read_outputs
if ec2; then
  images=$(amis) make='make ami' place="the account, in ${output[region]},"
else
  images=$(tagged) make='make publish, or let the build on main push one' place='the registry'
fi
newest=$(jq -r '.[:5][].commit' <<<"$images")
[[ $newest ]] || die "$place has no image of a commit yet: $make."
if [[ $wanted == --previous ]]; then
  previous=$(if ec2; then previous_ami "$images"; else previous_digest; fi)
  [[ $previous ]] || die "no other version ran before; choose one: bump.sh SHA."
  candidates=$(jq --arg previous "$previous" 'map(select((.digest // .ami) == $previous))' <<<"$images")
  [[ $candidates != "[]" ]] || die "the version that ran before, $previous, is no longer in the registry. The newest there:"$'\n'"$newest"
else
  candidates=$(jq --arg wanted "$wanted" 'map(select(.commit | startswith($wanted)))' <<<"$images")
  [[ $candidates != "[]" ]] || die "$place has no image of $wanted: is its build done? The newest there:"$'\n'"$newest"
  [[ ! $wanted || $(jq 'map(.commit) | unique | length' <<<"$candidates") == 1 ]] ||
    die "$wanted begins more than one commit; give more of it:"$'\n'"$(jq -r '.[].commit' <<<"$candidates")"
fi
choose "$candidates"
write
