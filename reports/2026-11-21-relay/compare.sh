#!/usr/bin/env bash
# Hailer beside rathole, in turns, in three network namespaces: client, relay, host. As root, on a quiet machine:
#     compare.sh HAILER RATHOLE [ROUNDS] > raw.csv
# It ends by itself, after 6 minutes at the latest, and prints the table with the bars on standard error.
set -euo pipefail
if [[ -z ${HAILER_COMPARE_INSIDE:-} ]]; then
    HAILER_COMPARE_INSIDE=1 exec timeout -k 5 355 "$0" "$@"
fi
hailer=$(readlink -f "$1") rathole=$(readlink -f "$2") rounds=${3:-3} each_ms=${4:-1200}
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
prefix=hrel$$
jobs=()
finish() {
    if [[ -s $work/raw.csv ]]; then "$work/load" table <"$work/raw.csv" >&2 || true; fi
    kill "${jobs[@]}" 2>/dev/null || true
    for name in client relay host; do ip netns del "$prefix-$name" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 124' TERM INT
ulimit -n 200000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
rustc --edition 2024 -O -o "$work/load" "$here/load.rs"

# client 10.66.1.2 - 10.66.1.1 relay 10.66.2.1 - 10.66.2.2 host; the relay's machine also passes packets on, for `direct`.
for name in client relay host; do
    ip netns add "$prefix-$name"
    ip -n "$prefix-$name" link set lo up
    ip netns exec "$prefix-$name" sysctl -qw net.ipv4.tcp_tw_reuse=1 net.ipv4.ip_local_port_range='1024 65535' net.core.somaxconn=4096
done
net=1
for name in client host; do
    ip -n "$prefix-relay" link add "to-$name" type veth peer name eth0 netns "$prefix-$name"
    ip -n "$prefix-relay" addr add "10.66.$net.1/24" dev "to-$name"
    ip -n "$prefix-relay" link set "to-$name" up
    ip -n "$prefix-$name" addr add "10.66.$net.2/24" dev eth0
    ip -n "$prefix-$name" link set eth0 up
    ip -n "$prefix-$name" route add default via "10.66.$net.1"
    net=$((net + 1))
done
ip netns exec "$prefix-relay" sysctl -qw net.ipv4.ip_forward=1

openssl rand -hex 32 >"$work/token"
token=$(cat "$work/token")
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=relay -keyout "$work/k.pem" -out "$work/c.pem" 2>/dev/null
pin=$(openssl x509 -in "$work/c.pem" -outform DER | sha256sum | cut -d' ' -f1)
# `ip netns exec` becomes the program, so $! is its process.
start() { ip netns exec "$prefix-$1" "${@:2}" >/dev/null 2>"$work/last-error" & jobs+=($!); last=$!; }
load() { ip netns exec "$prefix-client" "$work/load" "$@"; }
start_relay() { start relay "$hailer" relay --hosts 0.0.0.0:45100 --service echo=0.0.0.0:45101 --token-file "$work/token"; hailer_relay=$last; }
start_rathole() { start relay "$rathole" --server "$work/plain-s.toml"; plain_relay=$last; }
start host "$work/load" serve 0.0.0.0:45000
start_relay
start relay "$hailer" relay --hosts 0.0.0.0:45200 --service echo=0.0.0.0:45201 --token-file "$work/token" --tls-certificate "$work/c.pem" --tls-key "$work/k.pem"; tls_relay=$last
sleep 1
start host "$hailer" host --to 127.0.0.1:45000 --relay 10.66.2.1:45100 --service echo --token-file "$work/token"; hailer_host=$last
start host "$hailer" host --to 127.0.0.1:45000 --relay 10.66.2.1:45200 --service echo --token-file "$work/token" --tls-pin "$pin"; tls_host=$last
rathole_files() { # NAME PORT CLIENTS [TRANSPORT]
    printf '[server]\nbind_addr="0.0.0.0:%s"\ndefault_token="%s"\n%s\n[server.services.echo]\nbind_addr="0.0.0.0:%s"\nnodelay=true\n' "$2" "$token" "${4:-}" "$3" >"$work/$1-s.toml"
    printf '[client]\nremote_addr="10.66.2.1:%s"\ndefault_token="%s"\n%s\n[client.services.echo]\nlocal_addr="127.0.0.1:45000"\nnodelay=true\n' "$2" "$token" "${5:-}" >"$work/$1-c.toml"
}
rathole_files plain 45300 45301
keys=$("$rathole" --genkey 2>/dev/null)
private=$(sed -n '/Private/{n;p}' <<<"$keys") public=$(sed -n '/Public/{n;p}' <<<"$keys")
rathole_files noise 45400 45401 $'[server.transport]\ntype="noise"\n[server.transport.noise]\nlocal_private_key="'"$private"'"' $'[client.transport]\ntype="noise"\n[client.transport.noise]\nremote_public_key="'"$public"'"'
start_rathole
start relay "$rathole" --server "$work/noise-s.toml"; noise_relay=$last
sleep 0.5
start host "$rathole" --client "$work/plain-c.toml"; plain_host=$last
start host "$rathole" --client "$work/noise-c.toml"; noise_host=$last
sleep 2

rss() { awk '/VmRSS/ { print $2 }' "/proc/$1/status"; }
note() { echo "$1" | tee -a "$work/raw.csv"; }
note 'round,what,of,value'
note "0,idle relay KiB,hailer,$(rss "$hailer_relay")"
note "0,idle relay KiB,rathole,$(rss "$plain_relay")"
note "0,idle host KiB,hailer,$(rss "$hailer_host")"
note "0,idle host KiB,rathole,$(rss "$plain_host")"
note "0,idle relay KiB,hailer-tls,$(rss "$tls_relay")"
note "0,idle relay KiB,rathole-noise,$(rss "$noise_relay")"
# Processor time of relay and host together, in hundredths of a second.
cpu() { awk '{ sum += $14 + $15 } END { print sum }' "/proc/$1/stat" "/proc/$2/stat"; }
pids=("$$ $$" "$hailer_relay $hailer_host" "$plain_relay $plain_host" "$tls_relay $tls_host" "$noise_relay $noise_host")
names=(direct hailer rathole hailer-tls rathole-noise)
at=(10.66.2.2:45000 10.66.1.1:45101 10.66.1.1:45301 10.66.1.1:45201 10.66.1.1:45401)

# 500 sessions first, before anything has made a process grow.
for i in 1 2 3 4; do
    relay=${pids[$i]% *}
    before=$(rss "$relay")
    load hold "${at[$i]}" 500 1500 >"$work/held" &
    holder=$!
    for _ in $(seq 100); do grep -q held "$work/held" && break; sleep 0.05; done
    sleep 0.3
    note "0,500 sessions add KiB,${names[$i]},$(($(rss "$relay") - before))"
    wait "$holder"
done

for ((round = 1; round <= rounds; round++)); do
    for what in 'up 1' 'down 1' 'up 4' 'down 4' 'rtt 0' 'connect 1' 'connect 16' 'connect 64'; do
        for i in "${!names[@]}"; do
            # shellcheck disable=SC2086
            before=$(cpu ${pids[$i]})
            value=$(load "${what% *}" "${at[$i]}" "${what#* }" "$each_ms")
            # shellcheck disable=SC2086
            spent=$(($(cpu ${pids[$i]}) - before))
            case $what in
                rtt*)
                    note "$round,rtt p50,${names[$i]},${value% *}"
                    note "$round,rtt p99,${names[$i]},${value#* }"
                    ;;
                *)
                    note "$round,$what,${names[$i]},$value"
                    # Milliseconds a gigabit, or microseconds a session.
                    [[ ${names[$i]} == direct ]] || note "$round,$what cpu,${names[$i]},$(awk "BEGIN { print $spent * 10 * (\"$what\" ~ /connect/ ? 1000 : 1) / ($value * $each_ms / 1000) }")"
                    ;;
            esac
        done
    done
done

# The relay is killed, and comes back after two seconds: how long until the service answers.
for _ in 1 2 3; do
    for name in hailer rathole; do
        if [[ $name == hailer ]]; then
            kill -9 "$hailer_relay"; wait "$hailer_relay" 2>/dev/null || true; sleep 2
            begun=$(date +%s%3N); start_relay; answered=$(load back 10.66.1.1:45101)
        else
            kill -9 "$plain_relay"; wait "$plain_relay" 2>/dev/null || true; sleep 2
            begun=$(date +%s%3N); start_rathole; answered=$(load back 10.66.1.1:45301)
        fi
        [[ $answered == never ]] && note "0,back after ms,$name,15000" || note "0,back after ms,$name,$((answered - begun))"
    done
done

# Ten thousand idle sessions. What a hundred thousand short ones leave behind is a test of tests/namespaces.
before=$(rss "$hailer_relay")
load hold 10.66.1.1:45101 10000 2000 >"$work/held" &
holder=$!
for _ in $(seq 600); do grep -q held "$work/held" && break; sleep 0.05; done
sleep 0.5
note "0,bytes an idle session of 10000,hailer,$((($(rss "$hailer_relay") - before) * 1024 / 10000))"
wait "$holder" || true
