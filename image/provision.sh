#!/usr/bin/env bash
# Makes a Debian 12 machine one that serves hello: an EC2 instance that becomes an AMI (--ec2 --agents, by Packer),
# a root in which none of it runs yet (chroot, systemd-nspawn), or a server of one's own. It runs as root in the
# folder that bundle.sh packs. Once more is harmless; with another bundle it installs that commit beside the first.
#
#   --ec2     settings from user data and Secrets Manager, no SSH, nothing left that is of this machine alone
#   --agents  Amazon's agents for Session Manager and CloudWatch, checked by their signatures
set -euo pipefail
cd "$(dirname "$0")"

die() { echo "provision.sh: $*" >&2; exit 1; }

ec2=no agents=no
for option; do
  case $option in
    --ec2) ec2=yes ;;
    --agents) agents=yes ;;
    *) die "unknown option $option" ;;
  esac
done
[ "$(id -u)" -eq 0 ] || die "has to run as root"
# shellcheck source=/dev/null
. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] || die "is for Debian 12 (bookworm): the wheels are for its Python"
[ -f commit ] || die "is to be run in an unpacked bundle (image/bundle.sh makes one)"
commit=$(cat commit)
architecture=$(dpkg --print-architecture)
release=/opt/hello/$commit
export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes LC_ALL=C.UTF-8

# Whether systemd runs here, or this is a root that will be booted later.
running() { [ -d /run/systemd/system ]; }

install_packages() {
  local missing=() package
  for package; do
    [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null)" = "ii " ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  apt-get update -qq
  # dpkg need not sync each file of a machine that is only just made.
  apt-get install -qq -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io "${missing[@]}" >/dev/null
}

# Security updates are installed daily, by Debian's own means; the machine is not restarted for them.
install_updates() {
  install_packages unattended-upgrades ca-certificates
  install -m 0644 apt.conf /etc/apt/apt.conf.d/60hello
  systemctl enable --quiet apt-daily.timer apt-daily-upgrade.timer unattended-upgrades.service
}

# The virtual environment has its final path, and is complete before it is current.
install_hello() {
  install_packages python3-venv
  if [ ! -f "$release/complete" ]; then
    rm -rf "$release"
    python3 -m venv "$release"
    "$release/bin/pip" install --quiet --disable-pip-version-check --no-index --find-links wheels \
      --require-hashes -r requirements.txt
    "$release/bin/pip" install --quiet --disable-pip-version-check --no-index --no-deps hello-*.whl
    "$release/bin/pip" uninstall --quiet --yes pip setuptools
    install -m 0644 settings.py etcd_member.py etcd_cluster.py cloudwatch-agent.json "$release"
    echo "HELLO_COMMIT=$commit" >"$release/commit.env"
    touch "$release/complete"
  fi
  install -d -m 0700 /etc/hello
  install -m 0644 hello.service hello-settings.service /etc/systemd/system
  if [ "$(readlink /opt/hello/current)" != "$commit" ]; then
    ln -sfn "$commit" /opt/hello/current
    changed=yes
  fi
}

# AGENT URL KEY_URL FINGERPRINT: installs a package that the key of this fingerprint has signed.
install_agent() {
  local folder signer
  install_packages curl gnupg
  folder=$(mktemp -d)
  curl -fsSL --retry 3 -o "$folder/agent.deb" "$2"
  curl -fsSL --retry 3 -o "$folder/agent.sig" "$2.sig"
  curl -fsSL --retry 3 "$3" | gpg --homedir "$folder" --quiet --batch --import
  signer=$(gpg --homedir "$folder" --batch --status-fd 1 --verify "$folder/agent.sig" "$folder/agent.deb" 2>/dev/null \
    | awk '$2 == "VALIDSIG" {print $NF}') || true
  gpgconf --homedir "$folder" --kill all
  [ "$signer" = "$4" ] || die "$1 is not signed by $4: see docs/ami.md"
  apt-get install -qq -y --no-install-recommends "$folder/agent.deb" >/dev/null
  rm -rf "$folder"
}

# Where Amazon says that they are, and which keys sign them. That for Ubuntu is there for both architectures.
: "${SSM_AGENT_URL:=https://s3.amazonaws.com/ec2-downloads-windows/SSMAgent/latest/debian_$architecture/amazon-ssm-agent.deb}"
: "${SSM_AGENT_KEY:=DE92C7DA3E56E92331D62A36BC1F495C97DD04ED}"
: "${SSM_AGENT_KEY_URL:=https://keyserver.ubuntu.com/pks/lookup?op=get&search=0x$SSM_AGENT_KEY}"
: "${CLOUDWATCH_AGENT_URL:=https://s3.amazonaws.com/amazoncloudwatch-agent/ubuntu/$architecture/latest/amazon-cloudwatch-agent.deb}"
: "${CLOUDWATCH_AGENT_KEY:=937616F3450B7D806CBD9725D58167303B789C72}"
: "${CLOUDWATCH_AGENT_KEY_URL:=https://s3.amazonaws.com/amazoncloudwatch-agent/assets/amazon-cloudwatch-agent.gpg}"

install_agents() {
  install_agent amazon-ssm-agent "$SSM_AGENT_URL" "$SSM_AGENT_KEY_URL" "$SSM_AGENT_KEY"
  install_agent amazon-cloudwatch-agent "$CLOUDWATCH_AGENT_URL" "$CLOUDWATCH_AGENT_KEY_URL" "$CLOUDWATCH_AGENT_KEY"
  install -D -m 0644 cloudwatch-agent.conf /etc/systemd/system/amazon-cloudwatch-agent.service.d/hello.conf
  install -D -m 0644 prometheus.yaml /opt/aws/amazon-cloudwatch-agent/etc/hello-prometheus.yaml
  systemctl enable --quiet amazon-ssm-agent.service amazon-cloudwatch-agent.service
}

# An instance is a member of etcd where its user data say so. Debian's own unit would start one on each.
install_etcd() {
  systemctl --quiet mask etcd.service
  install_packages etcd-server e2fsprogs iproute2
  install -m 0644 etcd-prepare.service etcd-member.service /etc/systemd/system
  systemctl enable --quiet etcd-member.service
}

configure_ec2() {
  install_etcd
  install -D -m 0644 hello-settings.conf /etc/systemd/system/hello.service.d/settings.conf
  # Masked and not stopped: Packer is here by SSH. What boots next has none.
  systemctl --quiet mask ssh.service ssh.socket
  rm -f /etc/ssh/ssh_host_*
  # The next one to boot makes its own.
  : >/etc/machine-id
  if command -v cloud-init >/dev/null; then cloud-init clean --logs; fi
  apt-get clean
}

changed=no
install_updates
install_hello
[ $agents = no ] || install_agents
[ $ec2 = no ] || configure_ec2
systemctl enable --quiet hello.service
if running && [ $ec2 = no ]; then
  systemctl daemon-reload
  if [ $changed = yes ]; then systemctl restart hello.service; else systemctl start hello.service; fi
fi
echo "hello $commit is installed"
