#!/usr/bin/env bash
# What a node that is alone costs: resident memory of worlds of 2,000 and 8,000, and the difference for each.
#     idle.sh HAILER_SIM
set -euo pipefail
simulator=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

world() { # world NODES: its peak in KiB
    local file=$work/$1.toml lan
    {
        printf '[scenario]\nabout = "nodes that hear nobody"\nduration = "20 s"\n'
        for ((lan = 0; lan < $1 / 100; lan++)); do
            printf '[[segment]]\nname = "lan%d"\nprefix = "10.%d.%d.0/24"\n' "$lan" $((lan / 250)) $((lan % 250))
            printf '[[node]]\nname = "n%d-"\ncount = 100\nsegment = "lan%d"\n[node.zre]\nbeacon = false\n' "$lan" "$lan"
        done
        printf '[[expect]]\nalways = "nobody-unknown-appears"\n'
    } >"$file"
    /usr/bin/time -f %M "$simulator" run "$file" --no-report -q 2>&1 >/dev/null | tail -n 1
}

few=$(world 2000)
many=$(world 8000)
awk -v few="$few" -v many="$many" 'BEGIN { printf "%.1f KiB a node\n", (many - few) / 6000 }'
