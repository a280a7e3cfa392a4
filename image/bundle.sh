#!/usr/bin/env bash
# bundle.sh FOLDER [ARCHITECTURE]: puts into a folder all that provision.sh installs, for x86_64 or arm64 (by default
# this machine's): the commit's wheel, its dependencies as wheels, checked by their hashes, the units, the script.
# HELLO_COMMIT says which commit it is, where it is not the one that is checked out.
set -euo pipefail
folder=$(realpath -m "$1")
architecture=${2:-$(uname -m)}
cd "$(dirname "$0")/.."
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
case $architecture in
  x86_64) ;;
  arm64 | aarch64) architecture=aarch64 ;;
  *) echo "bundle.sh: no such architecture: $architecture (x86_64 or arm64)" >&2; exit 2 ;;
esac

rm -rf "$folder"
mkdir -p "$folder/wheels"
# Debian 12's Python and C library: what they run is chosen, not what this machine does.
"${pip[@]}" download --require-hashes -r requirements/run.txt --dest "$folder/wheels" --only-binary :all: \
  --implementation cp --python-version 3.11 --platform "manylinux_2_28_$architecture" \
  --platform "manylinux_2_17_$architecture" --platform "manylinux2014_$architecture"
"${pip[@]}" wheel --no-deps --no-build-isolation --no-index --wheel-dir "$folder" .
cp requirements/run.txt "$folder/requirements.txt"
cp image/provision.sh image/settings.py image/apt.conf image/prometheus.yaml image/cloudwatch-agent.json \
  image/cloudwatch-agent.conf image/etcd_member.py image/etcd_cluster.py image/etcd-prepare.service image/etcd-member.service \
  image/hello.service image/hello-settings.service image/hello-settings.conf "$folder"
printf '%s\n' "${HELLO_COMMIT:-$(git rev-parse HEAD)}" >"$folder/commit"
