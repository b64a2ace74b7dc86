#!/usr/bin/env bash
# Fetches Consul for the tests that ask a real one: .ci/consul.sh [folder]
# The folder is target/consul unless named (tests look there, or where HAILER_CONSUL says). Does nothing when it is there.
#
# Debian has the package in its older suite bullseye. It is fetched from wherever this machine's own sources have Debian,
# with lists of its own, and unpacked, not installed. Where that is not possible the script says so and ends well: the
# tests then say that they did not run.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(realpath -m "${1:-${CARGO_TARGET_DIR:-target}/consul}")
suite=bullseye

if "$folder/bin/consul" version >/dev/null 2>&1; then
    exit 0
fi
not_here() {
    echo "consul.sh: Consul can't be had here: $*" >&2
    exit 0
}
command -v apt-get >/dev/null || not_here 'this machine has no apt-get'

# shellcheck disable=SC2016 # apt-get fills these in, not the shell
source=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' 2>/dev/null |
    grep -v security | sort -u | head -n 1)
[ -n "$source" ] || not_here 'its package sources have no Debian'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
signed=
[ -e "$keyring" ] && signed="[signed-by=$keyring] "
echo "deb ${signed}${source} $suite main" >"$work/sources.list"
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache::Archives="$work/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root "$@"
}
apt update >"$work/log" 2>&1 || not_here "$(tail -n 1 "$work/log")"
(cd "$work" && apt download consul >"$work/log" 2>&1) || not_here "$(tail -n 1 "$work/log")"
dpkg -x "$work"/consul_*.deb "$work/unpacked"
mkdir -p "$folder/bin"
install -m 755 "$work/unpacked/usr/bin/consul" "$folder/bin/consul"
"$folder/bin/consul" version
