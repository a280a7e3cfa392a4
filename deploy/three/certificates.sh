#!/usr/bin/env bash
# certificates.sh FOLDER ADDRESS…: makes a CA in the folder, unless one is there, and in FOLDER/ADDRESS what that machine
# needs between the machines: ca.pem, cert.pem and key.pem, for a year. Run again it makes new ones by the same CA.
set -euo pipefail
umask 077
[ $# -ge 2 ] || { echo "usage: certificates.sh FOLDER ADDRESS…" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
shift

# FOLDER NAME DAYS OPTION…: a new key, and a certificate of it.
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "/CN=$2" -days "$3" \
    -keyout "$1/key.pem" -out "$1/cert.pem" "${@:4}" 2>/dev/null
}

if [ ! -f ca/cert.pem ]; then
  mkdir -p ca
  certificate ca "hello's machines" 3650 -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign
fi
for address; do
  mkdir -p "$address"
  certificate "$address" "$address" 365 -CA ca/cert.pem -CAkey ca/key.pem -addext basicConstraints=critical,CA:FALSE \
    -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=serverAuth -addext "subjectAltName=IP:$address"
  cp ca/cert.pem "$address/ca.pem"
done
