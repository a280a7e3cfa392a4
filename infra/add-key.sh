#!/usr/bin/env bash
# Makes an API key for the deployed service, or takes one away.
#
#   infra/add-key.sh NAME SCOPES [--integration-test]   SCOPES: read, write, admin, by commas
#   infra/add-key.sh --remove NAME
#
# The entry, with the key's digest, goes into the secret of `terraform output keys_secret`. The key itself is
# printed, this once; with --integration-test it goes into the secret that integration-test.sh reads.
# Tasks take entries when they start: the command that has them start anew is printed.

# shellcheck disable=SC2016 # variables in single quotes are jq's
# shellcheck source=infra/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Sets `entries` to those in force, changed by a jq filter with arguments, and `replaced` to the version they were in.
change_entries() {
  local answer
  answer=$(aws secretsmanager get-secret-value --secret-id "${output[keys_secret]:-}" --version-stage AWSCURRENT)
  entries=$(jq -r .SecretString <<<"$answer" | jq -c "$@") || exit 1
  replaced=$(jq -r .VersionId <<<"$answer")
}

# Puts `entries` in force. The label AWSCURRENT is moved away from the version that was read, so that of two who
# change them at once one is refused, and nobody's entry is lost.
write_entries() {
  local secret=${output[keys_secret]} version
  version=$(aws secretsmanager put-secret-value --secret-id "$secret" --version-stages changing \
    --secret-string "file://"<(printf '%s' "$entries") | jq -r .VersionId)
  aws secretsmanager update-secret-version-stage --secret-id "$secret" --version-stage AWSCURRENT \
    --move-to-version-id "$version" --remove-from-version-id "$replaced" >/dev/null ||
    die "somebody else changed the entries meanwhile, and none was changed here: run this again."
}

integration_test=false remove=false names=()
for argument; do
  case $argument in
  -h | --help) help && exit ;;
  --integration-test) integration_test=true ;;
  --remove) remove=true ;;
  -*) usage_error "no such option: $argument" ;;
  *) names+=("$argument") ;;
  esac
done
name=${names[0]:-} scopes=${names[1]:-}
if $remove; then
  [[ ${#names[@]} == 1 && $integration_test == false ]] || usage_error "--remove takes a NAME"
else
  ((${#names[@]} == 2)) || usage_error "give NAME and SCOPES"
fi
need aws jq terraform
read_outputs

if $remove; then
  change_entries --arg name "$name" 'if any(.[]; .name == $name) then map(select(.name != $name))
    else "there is no key of this name.\n" | halt_error(1) end'
  write_entries
  say "Removed: $name."
else
  hello=../.venv/bin/hello
  [[ -x $hello ]] || hello=$(command -v hello) || die "hello is not installed: make install"
  { read -r secret && read -r entry; } < <("$hello" key new "$name" --scope "$scopes" 2> >(grep -v '^The ' >&2)) ||
    die "no key was made."
  change_entries --argjson entry "$entry" 'if any(.[]; .name == $entry.name)
    then "there is a key of this name: remove it first, or take another name.\n" | halt_error(1) else . + [$entry] end'
  # The key first: should that fail, its name is not taken, and this can be run again.
  ! $integration_test || aws secretsmanager put-secret-value --secret-id "${output[integration_test_secret]:-}" \
    --secret-string "file://"<(printf '%s' "$secret") >/dev/null
  write_entries
  say "Added: $name, who may $scopes."
  if ! $integration_test; then
    say "The key, shown this once:"
    printf '%s\n' "$secret"
  fi
fi
restart="ecs update-service --region ${output[region]} --cluster ${output[cluster]:-} --service ${output[service]} --force-new-deployment"
[[ ${output[compute]:-} != ec2 ]] ||
  restart="autoscaling start-instance-refresh --region ${output[region]} --auto-scaling-group-name ${output[service]} --preferences MinHealthyPercentage=100,MaxHealthyPercentage=200"
[[ ! ${output[release]:-} ]] || say "It counts for tasks and instances that start from now on. To have all start anew:
  aws $restart"
