#!/usr/bin/env bash
# The cloud over one private PostgreSQL and over three as shards, with thousands of simulated hubs: how much a second, and what
# a hub costs. Everything is started here, in a directory of its own, on this machine alone, and ended here.
#   [HEARTHKEY=target/release/hearthkey] [HUBS=3000] [ROUNDS=2] [WIDTHS=1,4,16,64,256] tests/system/cloud-scale.sh [CLUSTERS…]
# CLUSTERS is how many to try, one after the other; 1 3 unless given. The program needs the feature `cloud`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null

program=$(realpath "${HEARTHKEY:-target/release/hearthkey}")
hubs=${HUBS:-3000} rounds=${ROUNDS:-2} widths=${WIDTHS:-1,4,16,64,256}
if [[ ! -x $program ]]; then
    echo "no program at $program: cargo build --release --features cloud, or set HEARTHKEY" >&2
    exit 2
fi
bin=$(dirname "$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort -V | tail -1)")
if [[ $bin == . ]]; then
    echo "there is no PostgreSQL: apt-get install postgresql" >&2
    exit 2
fi
# PostgreSQL does not run as root.
as=()
if [[ $(id -u) == 0 ]]; then
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
# Each hub is a connection, at both ends.
ulimit -n "$(ulimit -Hn)"

dir=$(mktemp -d /tmp/cloud-scale.XXXXXX)
chmod 755 "$dir"
cloud='' started=()
end() {
    if [[ -n $cloud ]]; then
        if kill "$cloud" 2>/dev/null; then wait "$cloud" || true; fi
        cloud=''
    fi
    for data in "${started[@]}"; do
        "${as[@]}" "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null || true
    done
    started=()
}
trap 'end; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

# Starts cluster $1 in $2, reached by a socket there alone.
cluster() {
    local data=$2/data
    install -d -m 700 "$2"
    if [[ ${#as[@]} -gt 0 ]]; then
        chown postgres: "$2"
    fi
    "${as[@]}" "$bin/initdb" -D "$data" -U postgres -A trust --no-sync >/dev/null
    started+=("$data")
    "${as[@]}" "$bin/pg_ctl" -D "$data" -w -l "$2/log" \
        -o "-c listen_addresses='' -c unix_socket_directories='$2' -c unix_socket_permissions=0777 -c max_connections=50" start >/dev/null
    chmod 755 "$2"
}

# Bytes of all databases.
size() {
    local sum=0 data
    for data in "${started[@]}"; do
        sum=$((sum + $("$bin/psql" -h "$(dirname "$data")" -U postgres -Atc 'select pg_database_size(current_database())' postgres)))
    done
    echo "$sum"
}

memory() { awk '/^Pss:/ { print $2 * 1024 }' "/proc/$1/smaps_rollup"; }

trial() {
    local clusters=$1 place=$dir/$1 urls=() watch=() n
    mkdir "$place"
    for ((n = 1; n <= clusters; n++)); do
        cluster "$n" "$place/db$n"
        urls+=(--database-url "postgresql://postgres@/postgres?host=$place/db$n")
        watch+=(--watch "postgresql=$(head -1 "$place/db$n/data/postmaster.pid")")
    done
    "$program" cloud --data-dir "$place/cloud" --listen 127.0.0.1:0 --announce-json --log warn "${urls[@]}" >"$place/cloud.out" &
    cloud=$!
    until grep -qs "^{" "$place/cloud.out"; do
        kill -0 "$cloud" || exit 1
        sleep 0.1
    done
    local url
    url=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' "$place/cloud.out")
    local empty idle
    empty=$(size) idle=$(memory "$cloud")
    echo
    echo "PostgreSQL: $clusters, hubs: $hubs, load average: $(cut -d' ' -f1 /proc/loadavg), processors: $(nproc)"
    local failed=0
    "$program" cloud-load --url "$url" --ca-file "$place/cloud/ca.pem" --hubs "$hubs" --rounds "$rounds" --at-a-time "$widths" --wake --idle 20 \
        --watch "cloud=$cloud" "${watch[@]}" || failed=1
    local full
    full=$(size)
    echo "database: $(((full - empty) / hubs)) bytes a hub ($empty empty, $full with $hubs hubs); cloud: $((idle / 1000)) kB before the first hub"
    for data in "${started[@]}"; do
        "$bin/psql" -h "$(dirname "$data")" -U postgres -Atc "select 'shard: ' || count(*) || ' hubs' from hubs" postgres
    done
    if [[ $clusters == 1 ]]; then
        "$bin/psql" -h "$place/db1" -U postgres -Atc "select relname || ': ' || pg_total_relation_size(oid) / $hubs || ' bytes a hub' from pg_class
            where relkind = 'r' and relnamespace = 'public'::regnamespace order by pg_total_relation_size(oid) desc limit 8" postgres
    fi
    end
    return "$failed"
}

status=0
for clusters in "${@:-1 3}"; do
    for one in $clusters; do
        trial "$one" || status=1
    done
done
exit "$status"
