#!/usr/bin/env bash
# Tells why a release failed: deployments, events, stopped tasks, target health and last lines of the log; of
# instances their refreshes and the group's activities.
#
#   infra/report.sh

# shellcheck source=infra/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=infra/ec2.sh
source ./ec2.sh

# Shows what comes as text, without what could steer a terminal, and without secrets, should a log hold any.
show() {
  tr -d '\000-\010\013-\037\177' |
    sed -E 's/hello_[A-Za-z0-9_-]{43}/hello_***/g; s|://([^:/@ ]*):[^@/ ]*@|://\1:***@|g; s/^/  /'
}

# section TITLE FUNCTION: one that can't be had doesn't keep the others from being shown.
section() {
  local told
  told=$( ("$2") | show) || true
  printf '\n%s\n%s\n' "$1" "${told:-  none}"
}

deployments() {
  jq -r '.services[0].deployments[] | "\(.status) \(.taskDefinition | split("/")[1]): \(.runningCount) of \(.desiredCount) run, \(.failedTasks // 0) failed, \(.rolloutState // "no rollout state") \(.rolloutStateReason // "")"' <<<"$service"
}

events() { jq -r "$time_of"'.services[0].events[:10] | reverse[] | "\(.createdAt | time) \(.message)"' <<<"$service"; }

stopped_tasks() {
  jq -r '.tasks | sort_by(.stoppedAt) | reverse[:5][] | "\(.taskArn | split("/")[-1]) of \(.taskDefinitionArn | split("/")[-1]): \(.stopCode // "") \(.stoppedReason // "")",
    (.containers[] | "  \(.name): exit status \(.exitCode // "none") \(.reason // "")")' <<<"$stopped"
}

target_health() {
  aws elbv2 describe-target-health --target-group-arn "${output[target_group_arn]:-}" |
    jq -r '.TargetHealthDescriptions[] | "\(.Target.Id):\(.Target.Port) \(.TargetHealth.State) \(.TargetHealth.Reason // "") \(.TargetHealth.Description // "")"'
}

# Of tasks that stopped, else of those that wrote last. A stream's name ends in the task's id.
log() {
  local group=${output[log_group]:-} streams stream
  streams=$(aws logs describe-log-streams --log-group-name "$group" --order-by LastEventTime --descending --max-items 50 |
    jq -r --argjson stopped "$stopped" '[.logStreams[].logStreamName] as $all
      | [$stopped.tasks[].taskArn | split("/")[-1]] as $ids
      | [$all[] | select(split("/")[-1] as $id | $ids | index($id))] | (if . == [] then $all else . end)[:2][]')
  for stream in $streams; do
    printf '%s\n' "$stream"
    aws logs get-log-events --log-group-name "$group" --log-stream-name "$stream" --limit 15 | jq -r '.events[].message'
  done
}

case ${1:-} in
'') ;;
-h | --help) help && exit ;;
*) usage_error "it takes no arguments" ;;
esac
need aws jq terraform
read_outputs
stopped='{"tasks": []}'
if ec2; then
  [[ $(describe_group) ]] || die "there is no Auto Scaling Group yet."
  section "Instance refreshes, the last three" instance_refreshes
  section "Scaling activities, the last ten" activities
  section "Instances" instances
  section "Target health" target_health
  section "Last lines of the log" log
  exit
fi
service=$(aws ecs describe-services --cluster "${output[cluster]:-}" --services "${output[service]:-}")
[[ $(jq '.services | length' <<<"$service") == 1 ]] || die "there is no service yet."
arns=$(aws ecs list-tasks --cluster "${output[cluster]}" --service-name "${output[service]}" --desired-status STOPPED --max-items 100 |
  jq -r '.taskArns[]?')
# shellcheck disable=SC2086 # ARNs have no spaces
[[ ! $arns ]] || stopped=$(aws ecs describe-tasks --cluster "${output[cluster]}" --tasks $arns)
section "Deployments" deployments
section "Last events" events
section "Stopped tasks, the last five" stopped_tasks
section "Target health" target_health
section "Last lines of the log" log
