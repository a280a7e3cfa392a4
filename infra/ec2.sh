#!/usr/bin/env bash
# What bump.sh, deploy.sh and report.sh do otherwise with compute = "ec2". They source it.
# It reads what common.sh sets (output, version_file, time_of), and of deploy.sh deadline, minutes and quiet.
# shellcheck disable=SC2154 # these

ec2() { [[ ${output[compute]:-} == ec2 ]]; }

# Prints the AMIs of commits as bump.sh has images, the newest first; image/hello.pkr.hcl tags them.
amis() {
  aws ec2 describe-images --owners self --filters Name=tag:Name,Values=hello Name=state,Values=available Name=tag-key,Values=Commit | jq --arg released "Released-${output[service]:-}" '
    [.Images[] | (.Tags | from_entries) as $tags | select($tags.Commit | test("^[0-9a-f]{40}$"))
     | {ami: .ImageId, pushed: .CreationDate, commit: $tags.Commit, architecture: .Architecture, released: $tags[$released]}]
    | sort_by(.pushed) | reverse'
}

# Prints the AMI that ran before: of those that deploy.sh marked as released, the last one that is not chosen.
# Terraform keeps no old launch template that could tell.
previous_ami() {
  local chosen
  chosen=$(jq -r '.release.ami // empty' "$version_file" 2>/dev/null || true)
  jq -r --arg chosen "$chosen" '[.[] | select(.released and .ami != $chosen)] | sort_by(.released) | last.ami // empty' <<<"$1"
}

describe_group() {
  aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "${output[service]:-}" | jq '.AutoScalingGroups[0] // empty'
}

# Prints the last refreshes, the newest first.
refreshes() {
  aws autoscaling describe-instance-refreshes --auto-scaling-group-name "${output[service]:-}" --max-records "${1:-1}" |
    jq "$time_of"'.InstanceRefreshes // [] | sort_by(.StartTime | time) | reverse'
}

# Prints how the refresh goes, where that changed.
follow_refresh() {
  local now
  now=$(refreshes 2>/dev/null | jq -r '.[0] // empty | "\(.Status), \(.PercentageComplete // 0) % \(.StatusReason // "")"') || return 0
  [[ $now == "$progress" ]] || ${quiet:-false} || say "  refresh: $now"
  progress=$now
}

# Terraform only begins the refresh. This waits for its end, and sees that all instances are of the release.
check_instances() {
  local wanted refresh status group template image others
  wanted=$(jq -r .release.ami "$version_file")
  while true; do
    refresh=$(refreshes | jq '.[0] // {}')
    status=$(jq -r '.Status // "none"' <<<"$refresh")
    case $status in
    Successful | none) break ;; # none: instances of a first release are new anyway
    Pending | InProgress | Baking | Cancelling | RollbackInProgress) ;;
    *) die "the instance refresh has ended as $status: $(jq -r '.StatusReason // "AWS gives no reason"' <<<"$refresh")" ;;
    esac
    if ((SECONDS >= deadline)); then
      aws autoscaling cancel-instance-refresh --auto-scaling-group-name "${output[service]}" >/dev/null || true
      die "the instance refresh was not done after $minutes minutes, and is cancelled: $status, $(jq -r '"\(.PercentageComplete // 0) %. \(.StatusReason // "")"' <<<"$refresh")"
    fi
    follow_refresh
    sleep 3
  done
  group=$(describe_group)
  [[ $group ]] || die "there is no Auto Scaling Group: is \`release\` set elsewhere too?"
  template=$(jq -r '.MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateId' <<<"$group")
  image=$(aws ec2 describe-launch-template-versions --launch-template-id "$template" --versions "\$Latest" |
    jq -r '.LaunchTemplateVersions[0].LaunchTemplateData.ImageId')
  [[ $image == "$wanted" ]] || die "the group starts $image, and not $wanted."
  others=$(jq -r --arg template "$template" '.Instances[] | select(.LifecycleState | startswith("Terminating") | not)
    | select(.LaunchTemplate.LaunchTemplateId != $template) | .InstanceId' <<<"$group")
  [[ ! $others ]] || die "instances of another version still run:"$'\n'"$others"
  status=$(jq '[.Instances[] | select(.LifecycleState == "InService" and .HealthStatus == "Healthy")] | length' <<<"$group")
  ((status > 0)) || die "no instance is in service."
  say "The group runs $wanted, $status instances."
}

# What report.sh shows.

instance_refreshes() {
  refreshes 3 | jq -r "$time_of"'.[] | "\(.StartTime | time) \(.Status), \(.PercentageComplete // 0) %, \(.InstancesToUpdate // 0) to go. \(.StatusReason // "")"'
}

activities() {
  aws autoscaling describe-scaling-activities --auto-scaling-group-name "${output[service]}" --max-items 10 |
    jq -r "$time_of"'.Activities[] | "\(.StartTime | time) \(.StatusCode) \(.Description) \(.StatusMessage // "")"'
}

instances() {
  describe_group | jq -r '.Instances[] | "\(.InstanceId) \(.InstanceType // "") of \(.LaunchTemplate.LaunchTemplateName // "a template that is gone"): \(.LifecycleState), \(.HealthStatus)"'
}
