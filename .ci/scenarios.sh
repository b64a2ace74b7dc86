#!/usr/bin/env bash
# Runs every scenario and compares the verdict with what the file's name promises:
#
#   scenarios/canary-liveness*.toml   must fail with 128: something good did not happen in time
#   scenarios/canary-safety*.toml     must fail with 129: something bad happened
#   any other scenarios/**/*.toml     must pass
#
# The canaries show that a verdict can be bad. At least one of each kind and one scenario must be there. Each file runs twice,
# in two processes and with two steps of the outer engine; both runs must end as expected, with the same digest.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --quiet --package hailer-sim

output=$(mktemp)
again=$(mktemp)
trap 'rm -f "$output" "$again"' EXIT

# simulate FILE [OPTION ...]
simulate() {
    cargo run --release --quiet --package hailer-sim -- run --no-report "$@" </dev/null 2>&1
}

digest() { # digest OUTPUT
    grep '^digest ' "$1" || echo "no digest in $1"
}

status=0
passing=0 liveness=0 safety=0

while IFS= read -r file; do
    name=$(basename "$file" .toml)
    case $name in
        canary-liveness*) expected=128 liveness=$((liveness + 1)) ;;
        canary-safety*) expected=129 safety=$((safety + 1)) ;;
        canary*)
            echo "$file: a canary is called canary-liveness.. or canary-safety.." >&2
            status=1
            continue
            ;;
        *) expected=0 passing=$((passing + 1)) ;;
    esac
    start=$SECONDS
    got=0 got_again=0
    simulate "$file" >"$output" || got=$?
    simulate "$file" --tick-ms 1000 >"$again" || got_again=$?
    if [ "$(digest "$output")" != "$(digest "$again")" ]; then
        printf '%4d s  FAILED  %s: with another step it has another digest\n' $((SECONDS - start)) "$file"
        digest "$output"
        digest "$again"
        status=1
    elif [ "$got" -eq "$expected" ] && [ "$got_again" -ne "$expected" ]; then
        printf '%4d s  FAILED  %s: exit %d, but with another step %d; it said:\n' $((SECONDS - start)) "$file" "$got" "$got_again"
        sed 's/^/    /' "$again"
        status=1
    elif [ "$got" -eq "$expected" ]; then
        printf '%4d s  ok      %s (exit %d)\n' $((SECONDS - start)) "$file" "$got"
    else
        printf '%4d s  FAILED  %s: exit %d, expected %d; it said:\n' $((SECONDS - start)) "$file" "$got" "$expected"
        sed 's/^/    /' "$output"
        status=1
    fi
done < <(find scenarios -name '*.toml' | LC_ALL=C sort)

for kind in passing liveness safety; do
    if [ "${!kind}" -eq 0 ]; then
        echo "there is no $kind scenario in scenarios/" >&2
        status=1
    fi
done
exit "$status"
