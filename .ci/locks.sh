#!/usr/bin/env bash
# Both lock files have what the manifests ask for: the workspace's and that of the fuzz targets, which is one of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
for manifest in Cargo.toml fuzz/Cargo.toml; do
    cargo metadata --locked --format-version 1 --quiet --manifest-path "$manifest" >/dev/null
    echo "$manifest: its lock file is complete"
done
