#!/usr/bin/env bash
# Makes what etcd needs with compute = "ec2": a certificate authority, and passwords. Once, before the first release.
#
#   infra/etcd-secrets.sh [--again]
#
# They go into the secrets of `terraform output etcd_secret`, `etcd_ca_secret` and `etcd_password_secret`, are printed
# nowhere, and Terraform never sees them. --again replaces what is there: docs/aws.md tells what has to follow.

# shellcheck source=infra/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

put() {
  aws secretsmanager put-secret-value --secret-id "$1" --secret-string "file://"<(printf '%s' "$2") >/dev/null
}

again=false
for argument; do
  case $argument in
  -h | --help) help && exit ;;
  --again) again=true ;;
  *) usage_error "no such option: $argument" ;;
  esac
done
need aws jq openssl terraform
read_outputs
[[ ${output[etcd_secret]:-} ]] || die "there is no etcd: it is made by compute = \"ec2\", and terraform apply."
there=$(aws secretsmanager list-secret-version-ids --secret-id "${output[etcd_secret]}" | jq '.Versions | length')
((there == 0)) || $again || die "they are there already; --again replaces them."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 3650 -subj "/CN=etcd of ${output[service]}" \
  -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign \
  -keyout "$folder/ca-key.pem" -out "$folder/ca.pem" 2>/dev/null || die "openssl made no certificate authority."
password=$(openssl rand -hex 32)
# No password is an argument: jq reads files, and aws a descriptor.
put "${output[etcd_secret]}" "$(jq -n --rawfile ca "$folder/ca.pem" --rawfile ca_key "$folder/ca-key.pem" \
  --rawfile root <(openssl rand -hex 32) --rawfile hello <(printf '%s' "$password") \
  '{$ca, $ca_key, root: ($root | rtrimstr("\n")), $hello}')"
put "${output[etcd_ca_secret]}" "$(<"$folder/ca.pem")"
put "${output[etcd_password_secret]}" "$password"
say "etcd's certificate authority and passwords are made."
