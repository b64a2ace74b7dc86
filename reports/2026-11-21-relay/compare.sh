#!/usr/bin/env bash
# Hailer beside rathole on one machine's loopback, in turns: compare.sh HAILER RATHOLE [ROUNDS] > raw.csv
set -euo pipefail
hailer=$1 rathole=$2 rounds=${3:-5}
here=$(dirname "$(readlink -f "$0")")
work=$(mktemp -d)
jobs=()
trap 'kill "${jobs[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
rustc -O -o "$work/load" "$here/load.rs"
openssl rand -hex 32 >"$work/token"
token=$(cat "$work/token")
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=relay -keyout "$work/k.pem" -out "$work/c.pem" 2>/dev/null
pin=$(openssl x509 -in "$work/c.pem" -outform DER | sha256sum | cut -d' ' -f1)
start() { "$@" >/dev/null 2>&1 & jobs+=($!); last=$!; }
start "$work/load" serve 45000
start "$hailer" relay --hosts 127.0.0.1:45100 --service echo=127.0.0.1:45101 --token-file "$work/token"; hailer_relay=$last
start "$hailer" relay --hosts 127.0.0.1:45200 --service echo=127.0.0.1:45201 --token-file "$work/token" --tls-certificate "$work/c.pem" --tls-key "$work/k.pem"; tls_relay=$last
sleep 1
start "$hailer" host --to 127.0.0.1:45000 --relay 127.0.0.1:45100 --service echo --token-file "$work/token"; hailer_host=$last
start "$hailer" host --to 127.0.0.1:45000 --relay 127.0.0.1:45200 --service echo --token-file "$work/token" --tls-pin "$pin"; tls_host=$last
rathole_pair() { # NAME PORT CLIENTS [TRANSPORT]
    printf '[server]\nbind_addr="127.0.0.1:%s"\ndefault_token="%s"\n%s\n[server.services.echo]\nbind_addr="127.0.0.1:%s"\nnodelay=true\n' "$2" "$token" "${4:-}" "$3" >"$work/$1-s.toml"
    printf '[client]\nremote_addr="127.0.0.1:%s"\ndefault_token="%s"\n%s\n[client.services.echo]\nlocal_addr="127.0.0.1:45000"\nnodelay=true\n' "$2" "$token" "${5:-}" >"$work/$1-c.toml"
    start "$rathole" --server "$work/$1-s.toml"; eval "$1_relay=$last"
    sleep 0.5
    start "$rathole" --client "$work/$1-c.toml"; eval "$1_host=$last"
}
rathole_pair plain 45300 45301
keys=$("$rathole" --genkey 2>/dev/null)
private=$(sed -n '/Private/{n;p}' <<<"$keys") public=$(sed -n '/Public/{n;p}' <<<"$keys")
rathole_pair noise 45400 45401 $'[server.transport]\ntype="noise"\n[server.transport.noise]\nlocal_private_key="'"$private"'"' $'[client.transport]\ntype="noise"\n[client.transport.noise]\nremote_public_key="'"$public"'"'
sleep 2
rss() { awk '/VmRSS/ { print $2 }' "/proc/$1/status"; }
echo 'round,what,of,value'
echo "0,rss_idle_relay_kib,hailer,$(rss "$hailer_relay")"
echo "0,rss_idle_relay_kib,rathole,$(rss "$plain_relay")"
echo "0,rss_idle_host_kib,hailer,$(rss "$hailer_host")"
echo "0,rss_idle_host_kib,rathole,$(rss "$plain_host")"
# Processor time of relay and host together, in hundredths of a second.
cpu() { awk '{ sum += $14 + $15 } END { print sum }' "/proc/$1/stat" "/proc/$2/stat"; }
pids=("$$ $$" "$hailer_relay $hailer_host" "$plain_relay $plain_host" "$tls_relay $tls_host" "$noise_relay $noise_host")
names=(direct hailer rathole hailer-tls rathole-noise)
ports=(45000 45101 45301 45201 45401)
for ((round = 1; round <= rounds; round++)); do
    for what in 'up 1' 'down 1' 'up 4' 'down 4' 'rtt 0' 'connect 1' 'connect 16' 'connect 64'; do
        for i in "${!names[@]}"; do
            # shellcheck disable=SC2086
            before=$(cpu ${pids[$i]})
            value=$("$work/load" ${what% *} "${ports[$i]}" ${what#* } 1500)
            # shellcheck disable=SC2086
            spent=$(($(cpu ${pids[$i]}) - before))
            echo "$round,$what,${names[$i]},$value"
            case $what in
                rtt*) ;;
                # Milliseconds a gigabit, or microseconds a session.
                *) echo "$round,cpu of $what,${names[$i]},$(awk "BEGIN { print $spent * 10 * (\"$what\" ~ /connect/ ? 1000 : 1) / ($value * 1.5) }")" ;;
            esac
        done
    done
done
for pair in "hailer 45101 $hailer_relay" "rathole 45301 $plain_relay"; do
    read -r name port pid <<<"$pair"
    before=$(rss "$pid")
    "$work/load" hold "$port" 500 4000 >/dev/null &
    holder=$!
    sleep 3
    echo "0,rss_added_by_500_kib,$name,$(($(rss "$pid") - before))"
    wait "$holder"
done
echo "0,descriptors_after,hailer,$(find "/proc/$hailer_relay/fd" | wc -l)"
