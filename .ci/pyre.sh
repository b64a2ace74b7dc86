#!/usr/bin/env bash
# Makes a Python with pyre in it, for the tests that talk to pyre: .ci/pyre.sh [folder]
# The folder is target/pyre unless named (tests look there, or where HAILER_PYRE says). Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-${CARGO_TARGET_DIR:-target}/pyre}

# 0.3.4 is the newest on the index; the versions are fixed because pyre's behaviour is what the tests are about.
requirements=(zeromq-pyre==0.3.4 pyzmq==27.1.0)

if "$folder/bin/python" -c 'import pyre' 2>/dev/null; then
    exit 0
fi
python3 -m venv --clear "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check "${requirements[@]}"
"$folder/bin/python" -c 'import pyre'
