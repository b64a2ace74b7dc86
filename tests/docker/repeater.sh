#!/usr/bin/env bash
# Repeaters between two real Docker engines: tests/docker/repeater.sh PATH_OF_HAILER
#
# Each engine has a network namespace of its own and so is a host of its own, with a bridge network of the same addresses as
# the other's. Nodes are containers on the bridges; on each bridge is a repeater with one published port. The nodes have to
# meet and to talk. Where there is no Docker it says so and ends well. The engines are this script's own: their data,
# sockets and processes are in a folder that goes away with them.
set -euo pipefail

hailer=$(realpath "${1:?usage: $0 PATH_OF_HAILER}")
not_run() {
    echo "NOT RUN: $0: $*" >&2
    exit 0
}
[ "$(id -u)" -eq 0 ] || not_run 'it needs root'
for program in dockerd docker ip nsenter; do
    command -v "$program" >/dev/null || not_run "there is no $program"
done

work=$(mktemp -d)
name=hlr-$$
engines=()
clean() {
    status=$?
    [ "$status" -eq 0 ] || tail -n 20 "$work"/*.log >&2 || true
    for host in 1 2; do
        [ -S "$work/$host.sock" ] && on "$host" ps -q | xargs -r docker -H "unix://$work/$host.sock" kill >/dev/null 2>&1
    done
    [ "${#engines[@]}" -eq 0 ] || kill "${engines[@]}" 2>/dev/null || true
    wait || true
    ip netns del "$name-1" 2>/dev/null || true
    ip netns del "$name-2" 2>/dev/null || true
    findmnt -rno TARGET | grep "^$work" | sort -r | xargs -r umount -l || true
    rm -rf "$work"
    exit "$status"
}
trap clean EXIT

on() { # on HOST ARGUMENT ...: docker on that host
    local host=$1
    shift
    docker -H "unix://$work/$host.sock" "$@"
}

# Two hosts on one cable.
ip netns add "$name-1"
ip netns add "$name-2"
ip -n "$name-1" link add eth0 type veth peer name eth0 netns "$name-2"
for host in 1 2; do
    ip -n "$name-$host" link set lo up
    ip -n "$name-$host" link set eth0 up
    ip -n "$name-$host" addr add "192.0.2.$host/24" dev eth0
    nsenter --net="/run/netns/$name-$host" sysctl -q -w net.ipv4.ip_forward=1
    nsenter --net="/run/netns/$name-$host" dockerd --data-root "$work/$host.data" --exec-root "$work/$host.exec" \
        --pidfile "$work/$host.pid" --host "unix://$work/$host.sock" --storage-driver vfs >"$work/$host.log" 2>&1 &
    engines+=($!)
done
for host in 1 2; do
    for _ in $(seq 120); do
        on "$host" version >/dev/null 2>&1 && break
        sleep 0.5
    done
    on "$host" version >/dev/null 2>&1 || not_run "its engine does not start: $(tail -n 1 "$work/$host.log")"
done

# An image with the program and the libraries that it asks for.
mkdir -p "$work/root/bin"
cp "$hailer" "$work/root/bin/hailer"
ldd "$hailer" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$library" "$work/root$library"
done
for host in 1 2; do
    tar -C "$work/root" -c . | on "$host" import - hailer >/dev/null
    on "$host" network create --subnet 172.30.0.0/16 app >/dev/null
    # The original would need the host's network; this needs one published port.
    on "$host" run -d --name repeater --network app --publish 2340:2340 hailer /bin/hailer repeater -v \
        --relay --advertise "192.0.2.$host" --repeater "192.0.2.$((3 - host))" >/dev/null
    # Different numbers of containers, so that the nodes' addresses differ in one case and are the same in the other.
    on "$host" run -d --name node --network app hailer /bin/hailer peers --json --name "node-$host" --group CHAT >/dev/null
done

for host in 1 2; do
    other="node-$((3 - host))"
    for _ in $(seq 60); do
        on "$host" logs node 2>/dev/null | grep -q "\"event\":\"JOIN\".*\"name\":\"$other\"" && break
        sleep 0.5
    done
    on "$host" logs node 2>/dev/null | grep "\"name\":\"$other\"" || {
        echo "node-$host does not know $other; its repeater said:" >&2
        on "$host" logs repeater >&2
        exit 1
    }
done
on 1 stop -t 5 -s INT node >/dev/null 2>&1 || on 1 kill -s INT node >/dev/null
for _ in $(seq 40); do
    on 2 logs node 2>/dev/null | grep -q '"event":"EXIT"' && break
    sleep 0.5
done
on 2 logs node 2>/dev/null | grep '"event":"EXIT".*"name":"node-1"'
echo "two engines ($(on 1 version --format '{{.Server.Version}}')): nodes on bridges with the same addresses met, and parted"
on 1 rm -f node repeater >/dev/null
on 2 rm -f node repeater >/dev/null

# The same hosts as a swarm with an overlay, on which broadcasts stay on their host: a repeater for each host, as a service
# that all find by its name in the swarm's DNS.
if ! on 1 swarm init --advertise-addr 192.0.2.1 >/dev/null 2>"$work/swarm"; then
    echo "NOT RUN: $0: the overlay: $(cat "$work/swarm")" >&2
    exit 0
fi
on 2 swarm join --token "$(on 1 swarm join-token -q worker)" --advertise-addr 192.0.2.2 192.0.2.1:2377 >/dev/null
on 1 network create --driver overlay --attachable mesh >/dev/null
for host in 1 2; do
    # A worker learns of an attachable network when it is asked for it, which may take a moment.
    for _ in $(seq 60); do
        on "$host" run -d --name node --network mesh hailer /bin/hailer peers --json --name "mesh-$host" \
            --group CHAT >/dev/null 2>"$work/run" && break
        on "$host" rm -f node >/dev/null 2>&1 || true
        sleep 1
    done
done
sleep 4
if on 1 logs node 2>/dev/null | grep '"event":"ENTER"'; then
    echo 'the overlay carries broadcasts: this test shows nothing' >&2
    exit 1
fi
on 1 service create --quiet --detach --no-resolve-image --mode global --name repeater --network mesh \
    hailer /bin/hailer repeater -v --dns tasks.repeater >/dev/null
for host in 1 2; do
    other="mesh-$((3 - host))"
    for _ in $(seq 120); do
        on "$host" logs node 2>/dev/null | grep -q "\"event\":\"JOIN\".*\"name\":\"$other\"" && break
        sleep 0.5
    done
    on "$host" logs node 2>/dev/null | grep "\"name\":\"$other\"" || {
        echo "mesh-$host does not know $other; $(cat "$work/run")" >&2
        on "$host" ps -a >&2
        on "$host" ps -q --filter name=repeater | xargs -r -n 1 docker -H "unix://$work/$host.sock" logs >&2
        exit 1
    }
done
echo "two engines as a swarm: nodes on an overlay met by repeaters of tasks.repeater"
on 2 swarm leave >/dev/null
on 1 swarm leave --force >/dev/null
