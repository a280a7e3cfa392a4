#!/usr/bin/env bash
# Releases: chooses a version, applies it, and sees that it runs. Exits 0 only if it does.
#
#   infra/deploy.sh [SHA | --previous] [--yes] [--minutes N]
#
# The version is that of `bump.sh [SHA | --previous]`. The plan is shown, and on a terminal asked about, unless
# --yes is given or AUTO_APPROVE set. Without a terminal a plan that destroys more than the old version (its task
# definition, its launch template) is refused without either. All ends within N minutes, 30 by default. After a failure report.sh tells why.

# shellcheck source=infra/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=infra/ec2.sh
source ./ec2.sh
declare -A seen
progress=

describe_service() {
  aws ecs describe-services --cluster "${output[cluster]:-}" --services "${output[service]:-}"
}

# Prints the service's events that are new, and how many tasks run where that changed.
follow() {
  ! ec2 || { follow_refresh && return; }
  local service id text now
  service=$(describe_service 2>/dev/null) || return 0
  while IFS=$'\t' read -r id text; do
    [[ ! $id || ${seen[$id]:-} ]] || ${quiet:-false} || say "  $text"
    [[ ! $id ]] || seen[$id]=1
  done < <(jq -r "$time_of"'.services[0].events // [] | reverse[] | [.id, "\(.createdAt | time) \(.message)"] | @tsv' <<<"$service")
  now=$(jq -r '.services[0].deployments // [] | map("\(.taskDefinition | split("/")[1]) \(.runningCount)/\(.desiredCount) \(.rolloutState // "")") | join(", ")' <<<"$service")
  [[ $now == "$progress" ]] || ${quiet:-false} || say "  running: $now"
  progress=$now
}

# Interrupts terraform once, however often it is asked to: at a second time it would end without saving its state.
interrupt() {
  [[ ! $interrupted ]] || return 0
  interrupted=$1
  kill -INT "$job" 2>/dev/null || true
}

# Runs terraform in a process group of its own, within the time that is left, and follows the service meanwhile.
# At the end of it, as at Ctrl-C, terraform is interrupted: then it saves its state, and gives back the lock.
run_terraform() {
  local job status=0 interrupted='' next=0
  set -m
  terraform "$@" </dev/null 2>"$folder/errors" &
  job=$!
  set +m
  trap 'interrupt "on request"' INT TERM
  while kill -0 "$job" 2>/dev/null; do
    if [[ $1 == apply ]] && ((SECONDS >= next)); then
      follow
      next=$((SECONDS + 5))
    fi
    if ((SECONDS > deadline + 120)); then
      kill -KILL "$job" 2>/dev/null || true
    elif ((SECONDS > deadline)); then
      interrupt "after $minutes minutes"
    fi
    sleep 0.2 || true
  done
  wait "$job" || status=$?
  trap - INT TERM
  cat "$folder/errors" >&2
  [[ ! $interrupted ]] || die "terraform $1 was interrupted $interrupted."
  ! grep -q 'acquiring the state lock' "$folder/errors" ||
    die "the state is locked: somebody else applies, or a run was killed. Once nobody does: terraform force-unlock ID, with the ID above."
  return "$status"
}

approve() {
  local destroyed
  ! $yes || return 0
  if [[ -t 0 ]]; then
    read -r -p "Apply this plan? Only yes is taken for one: " answer || true
    [[ $answer == yes ]] || die "not applied."
    return
  fi
  # A service whose first deployment failed is tainted: nothing is lost with it.
  destroyed=$(terraform show -json "$folder/plan" | jq -r '.resource_changes[]? | select(.change.actions | index("delete"))
    | select(.type | IN("aws_ecs_task_definition", "aws_launch_template") | not)
    | select(.type != "aws_ecs_service" or .action_reason != "replace_because_tainted") | "  " + .address')
  [[ ! $destroyed ]] || die "not applied: the plan destroys more than the old version; --yes allows it."$'\n'"$destroyed"
}

# The provider takes a service for stable that was rolled back, or will be by an alarm, so ECS is asked.
# Sets `task_definition` to the one that runs.
check_service() {
  local service state image wanted tasks others
  wanted=$(jq -r .release.digest "$version_file")
  while true; do
    service=$(describe_service)
    [[ $(jq '.services | length' <<<"$service") == 1 ]] || die "there is no service: is \`release\` set elsewhere too?"
    task_definition=$(jq -r '.services[0].deployments[] | select(.status == "PRIMARY").taskDefinition' <<<"$service")
    image=$(aws ecs describe-task-definition --task-definition "$task_definition" | jq -r '.taskDefinition.containerDefinitions[0].image')
    [[ $image == *@"$wanted" ]] || die "it was rolled back: the service runs $image, and not $wanted."
    state=$(jq -r '.services[0].deployments[] | select(.status == "PRIMARY").rolloutState' <<<"$service")
    case $state in
    COMPLETED) break ;;
    FAILED) die "the deployment failed, and there was nothing to roll back to." ;;
    esac
    ((SECONDS < deadline)) || die "the deployment is not done after $minutes minutes: $state."
    follow
    sleep 3
  done
  tasks=$(aws ecs list-tasks --cluster "${output[cluster]}" --service-name "${output[service]}" --desired-status RUNNING |
    jq -r '.taskArns[]')
  [[ $tasks ]] || die "no task runs."
  # shellcheck disable=SC2086 # ARNs have no spaces; ECS describes 100 at a time
  others=$(xargs -n 100 <<<"$tasks" | while read -r some; do aws ecs describe-tasks --cluster "${output[cluster]}" --tasks $some; done |
    jq -r --arg wanted "$task_definition" '.tasks[] | select(.taskDefinitionArn != $wanted).taskArn')
  [[ ! $others ]] || die "tasks of another version still run:"$'\n'"$others"
  say "The service runs $wanted, $(wc -l <<<"$tasks") tasks of ${task_definition##*/}."
}

mark_released() {
  local time
  time=$(date +%FT%TZ)
  if ec2; then
    aws ec2 create-tags --resources "$(jq -r .release.ami "$version_file")" --tags "Key=Released-${output[service]},Value=$time"
  else
    aws ecs tag-resource --resource-arn "$task_definition" --tags "key=Released,value=$time"
  fi
}

finish() {
  local status=$?
  rm -rf "$folder"
  if ((status)) && $reporting; then
    say "The release failed."
    ./report.sh >&2 || true
    say $'\n'"What ran before comes back by: make rollback"
  fi
}

yes=${AUTO_APPROVE:+true} yes=${yes:-false} minutes=30 choice=() reporting=false
while (($#)); do
  case $1 in
  -h | --help) help && exit ;;
  --yes) yes=true ;;
  --minutes) minutes=${2:-} && shift $(($# > 1)) ;;
  *) choice+=("$1") ;;
  esac
  shift
done
[[ $minutes =~ ^[0-9]{1,4}$ ]] || usage_error "--minutes takes a number"
deadline=$((SECONDS + 10#$minutes * 60)) # 08 is no octal number
need aws curl jq terraform timeout
folder=$(mktemp -d)
trap finish EXIT

./bump.sh "${choice[@]}"
read_outputs
quiet=true follow
changes=0
run_terraform plan -input=false -lock-timeout=60s -detailed-exitcode -out="$folder/plan" || changes=$?
((changes != 1)) || die "terraform plan failed."
if ((changes)); then
  approve
  reporting=true
  run_terraform apply -input=false -lock-timeout=60s "$folder/plan" || die "terraform apply failed."
  read_outputs
fi
reporting=true # or applied before: what runs may be wrong all the same
if ec2; then check_instances; else check_service; fi
((SECONDS < deadline)) || die "no time is left for the integration test."
timeout --foreground "$((deadline - SECONDS))" ./integration-test.sh
# bump.sh --previous chooses among those that have the mark.
mark_released || say "It could not be marked as released: make rollback will pass it over."
say "Released $(jq -r .release.commit "$version_file") in $SECONDS s."
