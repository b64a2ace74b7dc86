#!/usr/bin/env bash
# Installs what the checks use and this machine lacks: Debian packages, and a Python with pyre. Rust must be there.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # need PACKAGE COMMAND [ARGUMENT ...]: the package is missing when the command fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
need busybox-static test -x /bin/busybox
need dnsmasq-base dnsmasq --version
need g++ g++ --version
need docker.io dockerd --version
need iproute2 ip -Version
need nftables nft --version
need python3 python3 --version
need python3-venv python3 -c 'import ensurepip, venv'
need shellcheck shellcheck --version
need libczmq4 python3 -c 'import ctypes; ctypes.CDLL("libczmq.so.4")'
need tshark tshark --version

if [ "${#missing[@]}" -gt 0 ]; then
    echo "missing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${missing[@]}"
fi

.ci/pyre.sh
.ci/consul.sh
