#!/usr/bin/env bash
# Messages between two hailers in two network namespaces, beside a bare TCP echo, in turns. As root, on a quiet machine:
#     messages.sh HAILER [ROUNDS] > messages.csv
# Rates are of 10 B, 1 KiB and 64 KiB, and of shouts of 1 KiB to four members; round trips are of 10 B (64 B by TCP), in
# microseconds, median and 99th percentile. At the end the receiver is frozen (SIGSTOP) while 20,000 messages of 64 KiB are
# being sent: what the sender says, its peak memory.
set -euo pipefail
hailer=$(readlink -f "$1") rounds=${2:-5}
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
prefix=hmsg$$
jobs=()
finish() {
    kill -KILL "${jobs[@]}" 2>/dev/null || true
    for side in a b; do ip netns del "$prefix-$side" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
rustc --edition 2024 -O -o "$work/load" "$here/../2026-11-21-relay/load.rs"
for side in a b; do ip netns add "$prefix-$side"; done
ip -n "$prefix-a" link add name eth0 type veth peer name eth0 netns "$prefix-b"
number=1
for side in a b; do
    ip -n "$prefix-$side" addr add "10.67.0.$number/24" dev eth0
    ip -n "$prefix-$side" link set lo up
    ip -n "$prefix-$side" link set eth0 up
    number=$((number + 1))
done
# `ip netns exec` becomes the program, so $! is its process.
serve() { ip netns exec "$prefix-a" "$@" >/dev/null 2>&1 & jobs+=($!); served=$!; }
bench() { ip netns exec "$prefix-b" "$hailer" bench --interface eth0 --with server --json "$@"; }

read=$(cat <<'PYTHON'
import json, sys
round, bytes = sys.argv[1:]
for line in sys.stdin:
    told = json.loads(line)
    if told.get("event") == "BENCH":
        print(f"{round},whispers of {bytes} B a second,{told['messages_per_s']:.0f},")
        trip = told["round_trip_ms"]
        if bytes == "10":
            print(f"{round},whisper round trip us,{trip['median'] * 1000:.0f},{trip['p99'] * 1000:.0f}")
PYTHON
)

echo 'round,what,value,p99'
serve "$work/load" serve 0.0.0.0:45000
for round in $(seq "$rounds"); do
    read -r half most < <(ip netns exec "$prefix-b" "$work/load" rtt 10.67.0.1:45000 2000 2000)
    echo "$round,TCP round trip us,$half,$most"
    serve "$hailer" bench --serve --interface eth0 --name server
    for size in 10:400000 1024:300000 65536:40000; do
        bench --bytes "${size%:*}" --messages "${size#*:}" --round-trips 5000 >"$work/out"
        python3 -c "$read" "$round" "${size%:*}" <"$work/out"
    done
    kill -INT "$served"
    wait "$served" || true
done
members=()
for member in 1 2 3 4; do
    serve "$hailer" bench --serve --interface eth0 --name "member$member"
    members+=("$served")
done
for round in $(seq "$rounds"); do
    ip netns exec "$prefix-b" "$hailer" bench --interface eth0 --shout 4 --json --bytes 1024 --messages 100000 >"$work/out" &
    sender=$!
    peak=0
    while kill -0 "$sender" 2>/dev/null; do
        now=$(awk '/VmHWM/ { print $2 }' "/proc/$sender/status" 2>/dev/null || echo 0)
        peak=$((now > peak ? now : peak))
        sleep 0.05
    done
    rate=$(python3 -c 'import json, sys; print(*(line["messages_per_s"] for line in map(json.loads, sys.stdin) if line.get("event") == "BENCH"))' <"$work/out")
    echo "$round,shouts of 1024 B a second to each of 4 members,$rate,"
    echo "$round,peak KiB of who shouts,$peak,"
done
kill -INT "${members[@]}"
wait "${members[@]}" || true
serve "$hailer" bench --serve --interface eth0 --name server
ip netns exec "$prefix-b" "$hailer" bench --interface eth0 --with server --bytes 65536 --messages 20000 >/dev/null 2>"$work/out" &
sender=$!
sleep 0.6
kill -STOP "$served"
peak=0
while kill -0 "$sender" 2>/dev/null; do
    now=$(awk '/VmHWM/ { print $2 }' "/proc/$sender/status" 2>/dev/null || echo 0)
    peak=$((now > peak ? now : peak))
    sleep 0.1
done
echo "0,peak KiB of the sender to a frozen peer,$peak,"
echo "0,what it says: $(tail -n 1 "$work/out"),,"
