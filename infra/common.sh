#!/usr/bin/env bash
# What the scripts of this folder share. They source it: it sets the shell's options, and goes to this folder.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")"
export AWS_PAGER='' TZ=UTC # times of one zone sort as text
# shellcheck disable=SC2034 # they read it
version_file=version.auto.tfvars.json
# For jq: version 1 of aws gives times as numbers.
# shellcheck disable=SC2034
time_of='def time: if type == "number" then floor | todate else . end; '
declare -A output

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

usage_error() {
  say "$(basename "$0"): $* (--help tells more)"
  exit 2
}

# Prints the comment that a script begins with.
help() { sed -n '2,/^$/s/^# \{0,1\}//p' "$(basename "$0")"; }

need() {
  local command missing=()
  for command; do
    type -P "$command" >/dev/null || missing+=("$command")
  done
  ((${#missing[@]} == 0)) || die "not installed: ${missing[*]}. docs/releases.md says where to get it."
}

# Reads Terraform's outputs into the array `output`, and has aws act where Terraform does, and as whom.
read_outputs() {
  local text name value
  text=$(terraform output -json) || die "Terraform's outputs can't be read; where the folder is new: terraform init."
  while IFS=$'\t' read -r name value; do
    output[$name]=$value
  done < <(jq -r 'to_entries[] | select(.value.value | type == "string") | [.key, .value.value] | @tsv' <<<"$text")
  [[ ${output[repository_name]:-} && ${output[region]:-} ]] ||
    die "there is no infrastructure in Terraform's state yet: terraform apply makes the registry, and all but the service."
  export AWS_REGION=${output[region]} AWS_DEFAULT_REGION=${output[region]}
  use_credentials
}

# Terraform takes access_key and secret_key where they are given; so must aws, through its environment.
use_credentials() {
  local access_key secret_key
  access_key=$(tfvar access_key)
  secret_key=$(tfvar secret_key)
  [[ $access_key && $secret_key ]] || return 0
  unset AWS_PROFILE AWS_SESSION_TOKEN AWS_SECURITY_TOKEN
  export AWS_ACCESS_KEY_ID=$access_key AWS_SECRET_ACCESS_KEY=$secret_key
}

# Prints a variable as terraform.tfvars has it, else the environment; nothing where it is null or missing.
tfvar() {
  local variable=TF_VAR_$1 value=''
  [[ ! -f terraform.tfvars ]] || value=$(sed -nE "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*//p" terraform.tfvars)
  [[ $value ]] || { printf '%s' "${!variable:-}" && return; }
  if [[ $value =~ ^\"([A-Za-z0-9/+=]*)\"[[:space:]]*((#|//).*)?$ ]]; then
    printf '%s' "${BASH_REMATCH[1]}"
  elif [[ ! $value =~ ^null[[:space:]]*((#|//).*)?$ ]]; then
    die "terraform.tfvars is not understood: write one line $1 = \"…\", or leave it out."
  fi
}

# aws, whose failure says what to do. Versions before 2.13 don't know AWS_ENDPOINT_URL by themselves.
aws() {
  local said advice
  { said=$(command aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} --cli-connect-timeout 10 \
    --cli-read-timeout 30 --output json "$@" 2>&1 >&3) && return; } 3>&1
  case $said in
  *ExpiredToken* | *RequestExpired* | *"has expired"*)
    advice="The AWS credentials have expired: sign in again (aws sso login, or new keys), and run this again." ;;
  *"Unable to locate credentials"* | *"Partial credentials"* | *"could not be found"*)
    advice="There are no AWS credentials: put access_key and secret_key into infra/terraform.tfvars, or sign in (aws configure, aws sso login, AWS_PROFILE)." ;;
  *InvalidClientTokenId* | *UnrecognizedClient* | *InvalidSignature* | *SignatureDoesNotMatch* | *AuthFailure*)
    advice="AWS does not take these credentials: look at infra/terraform.tfvars, or sign in again." ;;
  *AccessDenied* | *"not authorized"*)
    advice="These credentials lack the right for it." ;;
  *"Could not connect"* | *"Connect timeout"* | *"Read timeout"*)
    advice="AWS can't be reached: look at the network, a proxy, and the region (${AWS_REGION:-none})." ;;
  *) advice='' ;;
  esac
  say "aws $1 $2: ${said##*$'\n'}${advice:+$'\n'$advice}"
  return 1
}
