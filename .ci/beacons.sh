#!/usr/bin/env bash
# Counts in a capture that of 20 sites with 50 nodes each is told of each node elsewhere once an interval, no more and no less.
set -euo pipefail
cd "$(dirname "$0")/.."

capture=$(mktemp --suffix .pcapng)
trap 'rm -f "$capture"' EXIT
cargo run --release --quiet --package hailer-sim -- run --quiet --no-report --pcap "$capture" scenarios/repeater-20x50.toml
# Ten seconds of nodes that beacon once a second: 19 other sites' nodes at each of 20 sites.
python3 reports/2026-11-21-repeater/told.py "$capture" 8 18 19000 10
