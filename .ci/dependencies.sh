#!/usr/bin/env bash
# Holds the `hailer` program's dependencies to what ARCHITECTURE.md says of them:
#
# * every direct one has a row "| `name` | reason |" under the heading "## Dependencies", and every row a dependency;
# * none, direct or not, belongs to the simulator;
# * all have licences that allow use in any program.
set -euo pipefail
cd "$(dirname "$0")/.."

simulator_only='turmoil plotters criterion proptest indicatif comfy-table hdrhistogram blake3'
permissive='0BSD Apache-2.0 BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 ISC MIT MIT-0 Unicode-3.0 Unlicense Zlib'

status=0
fail() {
    echo "$*" >&2
    status=1
}

tree() { # tree FORMAT [OPTION ...]: the program's own dependencies, each once, itself left out
    local format=$1
    shift
    cargo tree --locked --quiet --package hailer --edges normal --prefix none --no-dedupe --format "{p}|$format" "$@" |
        sed -E 's/^([^ ]+) [^|]*\|/\1 /' | sort -u | grep -v '^hailer '
}

all=$(tree '' | tr -d ' ')
direct=$(tree '' --depth 1 | tr -d ' ')
[ -n "$direct" ] || fail 'cargo tree lists no dependency: this check is broken'

for name in $simulator_only; do
    if grep -qx "$name" <<<"$all"; then
        fail "$name has reached the hailer program:"
        cargo tree --locked --quiet --package hailer --edges normal --invert "$name" >&2 || true
    fi
done

if [ -f ARCHITECTURE.md ]; then
    explained=$(awk -F '|' '
        /^## / { here = /^## Dependencies/ }
        here && $2 ~ /^ *`[A-Za-z0-9_-]+` *$/ && $3 ~ /[^ ]/ { gsub(/[` ]/, "", $2); print $2 }
    ' ARCHITECTURE.md | sort -u)
    for name in $direct; do
        grep -qx "$name" <<<"$explained" ||
            fail "$name: no reason in ARCHITECTURE.md; add a row \"| \`$name\` | reason |\" under \"## Dependencies\""
    done
    for name in $explained; do
        grep -qx "$name" <<<"$direct" || fail "$name: ARCHITECTURE.md explains it, but hailer does not depend on it"
    done
else
    fail 'ARCHITECTURE.md is missing: it must explain each direct dependency under "## Dependencies"'
fi

# "A AND (B OR C)" asks for one permissive choice in every part between ANDs.
refused=$(tree '{l}' | awk -v permissive="$permissive" '
    BEGIN { count = split(permissive, names, " "); for (i = 1; i <= count; i++) allowed[names[i]] = 1 }
    {
        expression = $0
        sub(/^[^ ]+ */, "", expression)
        gsub(/[()]/, " ", expression)
        gsub(/\//, " OR ", expression)
        parts = split(expression, part, / AND /)
        for (i = 1; i <= parts || i == 1; i++) {
            words = split(part[i], word, " ")
            fine = 0
            for (j = 1; j <= words; j++) if (word[j] in allowed) fine = 1
            if (!fine) { print; break }
        }
    }')
[ -z "$refused" ] || fail "licences that are not on the list in $0:"$'\n'"$refused"

[ "$status" -eq 0 ] && echo "$(wc -w <<<"$direct") direct dependencies, $(wc -w <<<"$all") in all: explained, free of the simulator, permissive"
exit "$status"
