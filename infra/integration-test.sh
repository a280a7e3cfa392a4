#!/usr/bin/env bash
# Asks the deployed service, from outside, whether it does what it should. Exits 0 if it does.
#
#   infra/integration-test.sh
#
# It sees that the version is the one that bump.sh chose, and registers, greets and forgets a person of its own,
# with the key in the secret of `terraform output integration_test_secret` (add-key.sh puts it there). Where
# TLS is on, port 5000 must lead to it. The first answer is waited for, up to 3 minutes; no other request is repeated.

# shellcheck source=infra/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

passed() { printf 'ok  %s\n' "$*"; }

failed() { die "failed: $*"; }

# Sends a request, and sets `status`, `location` and `body`. The key goes through a descriptor: arguments are public.
ask() {
  local key=$1 answer
  shift
  answer=$(curl --config <([[ ! $key ]] || printf 'header = "Authorization: Bearer %s"\n' "$key") \
    --silent --show-error --max-time 10 --write-out '\n%{http_code} %{redirect_url}' "$@") || failed "curl ${*: -1}"
  body=${answer%$'\n'*}
  read -r status location <<<"${answer##*$'\n'}"
}

# ask_for STATUS WHAT ARGUMENTS…: the person, with the key.
ask_for() {
  local wanted=$1 what=$2
  shift 2
  ask "$key" "$@" "$base/hello/$username"
  [[ $status == "$wanted" ]] || failed "$what: $status instead of $wanted: $body"
}

remove_person() {
  [[ $username ]] || return 0
  curl --config <(printf 'header = "Authorization: Bearer %s"\n' "$key") --silent --output /dev/null --max-time 10 \
    --request DELETE "$base/hello/$username" || say "still there, perhaps: $username"
}

case ${1:-} in
'') ;;
-h | --help) help && exit ;;
*) usage_error "it takes no arguments" ;;
esac
need aws curl jq terraform
read_outputs
commit=$(jq -r .release.commit "$version_file" 2>/dev/null) || die "no version is chosen yet: bump.sh chooses one."
key=$(aws secretsmanager get-secret-value --secret-id "${output[integration_test_secret]:-}" \
  --version-stage AWSCURRENT | jq -r .SecretString) ||
  die "there is no key to test with: infra/add-key.sh integration-test read,write --integration-test"

dns_name=$(terraform state show -no-color aws_lb.alb | grep dns_name | cut -d '"' -f 2) || true
[[ $dns_name ]] || die "Terraform's state has no dns_name of aws_lb.alb: terraform apply."
base=http://$dns_name:5000
ask '' --fail --retry 90 --retry-all-errors --retry-delay 2 --retry-max-time 180 "$base/"
if [[ ${output[url]:-} == https://* ]]; then
  [[ $status == 301 && $location == "${output[url]%/}"[:/]* ]] ||
    failed "port 5000 does not lead to ${output[url]}, but answers $status ${location:-without a Location}"
  passed "$dns_name:5000 leads to $location"
  base=${output[url]%/}
  ask '' "$base/"
fi
[[ $status == 200 && $(jq -r .service <<<"$body") == hello ]] || failed "$base/ answers $status: $body"
passed "$base/ is $(jq -c '{service, version}' <<<"$body")"

# Each time another connection, so that another instance may answer.
for _ in 1 2 3 4 5; do
  ask '' "$base/version"
  [[ $(jq -r .commit <<<"$body") == "$commit" ]] || failed "the version is $body, and not $commit"
done
passed "the version is $commit"

ask '' "$base/hello"
[[ $status == 401 ]] || failed "the list of everyone answers $status without a key, and not 401"
passed "who has no key learns nobody's date of birth"

username=
trap remove_person EXIT
# Letters only; the hexadecimal digits 0 to 9 become g to p.
username=Integrationtest$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n' | tr 0-9 g-p)
ask_for 204 "registering $username" --request PUT --header 'Content-Type: application/json' --data '{"dateOfBirth":"2000-02-29"}'
ask_for 200 "greeting $username"
[[ $body == "{\"message\":\"Hello, $username! "* ]] || failed "greeting $username: $body"
ask_for 204 "forgetting $username" --request DELETE
ask_for 404 "greeting $username, who is forgotten"
username=
passed "registered, greeted and forgot a person"
