#!/usr/bin/env bash
# A maker uploads made-up identities to a cloud with a private PostgreSQL, and has a real hub recognise some of them: how long
# each step takes, and in how much memory. Everything is started here, on this machine alone, and ended here.
#   [HEARTHKEY=target/release/hearthkey] [COUNT=1000000] [FOR_HUB=100000] tests/system/cloud-upload.sh
# FOR_HUB is how many identities, uploaded besides, one hub is to recognise (at most 200000; 0 for none). Needs curl and jq.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec </dev/null
if [[ $# -gt 0 ]]; then
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
program=$(realpath "${HEARTHKEY:-target/release/hearthkey}")
count=${COUNT:-1000000} for_hub=${FOR_HUB:-100000}

dir=$(mktemp -d /tmp/cloud-upload.XXXXXX)
chmod 755 "$dir"
cloud='' hub=''
end() {
    for pid in $hub $cloud; do
        if kill "$pid" 2>/dev/null; then wait "$pid" || true; fi
    done
}
trap 'end; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'; }
memory() { awk '/^VmRSS|^VmHWM/ { printf "%s %d MB  ", $1, $2 / 1000 }' "/proc/$1/status"; }
cpu() { awk '{ sub(/.*\) /, ""); printf "%.1f s of CPU", ($12 + $13) / 100 }' "/proc/$1/stat"; }
announced() { # file, pid
    until grep -qs '^{' "$1"; do
        kill -0 "$2" || exit 1
        sleep 0.1
    done
    grep '^{' "$1" | head -1
}

shop=$dir/factory
"$program" factory brand new acme --dir "$shop" >/dev/null
"$program" factory model add lamp --brand acme --dir "$shop" >/dev/null

place=$dir/cloud
"$program" cloud --data-dir "$place" --listen 127.0.0.1:0 --announce-json --log warn >"$dir/cloud.out" &
cloud=$!
said=$(announced "$dir/cloud.out" "$cloud")
url=$(jq -r .url <<<"$said") key=$(jq -r .key <<<"$said") region=$(jq -r .region <<<"$said")
"$program" cloud tenant add "$shop/acme" --data-dir "$place" >/dev/null
made=$("$program" cloud service add trial --brand acme --network 127.0.0.0/8 --scope upload_identities --scope assign_devices --data-dir "$place")
client=$(head -1 <<<"$made" | cut -d' ' -f1) secret=$(sed -n 's/.*client_secret *\([^ ]*\).*/\1/p' <<<"$made")
to_cloud=(curl --silent --show-error --fail-with-body --cacert "$place/ca.pem")
token=$("${to_cloud[@]}" "$url/v1/token" -d grant_type=client_credentials -d client_id="$client" --data-urlencode client_secret="$secret" | jq -r .access_token)
signed_in=("${to_cloud[@]}" -H "Authorization: Bearer $token")

upload() { # id, how many
    "$program" cloud-load --write-identities "$2" --brand acme --model lamp >"$dir/identities"
    local began answer
    began=$(now)
    answer=$("${signed_in[@]}" "$url/v1/identities?brand=acme" -H "Upload-Id: $1" -H "Upload-Length: $(stat -c %s "$dir/identities")" \
        -H 'Content-Type: application/x-ndjson' -T "$dir/identities" -X POST)
    echo "uploaded $2 identities ($(($(stat -c %s "$dir/identities") / 1000000)) MB) in $(since "$began"): $(jq -c '{state, devices}' <<<"$answer")"
    rm "$dir/identities"
}

echo "load average: $(cut -d' ' -f1 /proc/loadavg), processors: $(nproc)"
echo "cloud before: $(memory "$cloud")"
upload many "$count"
echo "cloud after: $(memory "$cloud") $(cpu "$cloud"); its directory: $(du -sm "$place" | cut -f1) MB"
if [[ $for_hub == 0 ]]; then
    exit 0
fi
upload some "$for_hub"

export HEARTHKEY_MDNS__ENABLED=false HEARTHKEY_BLUETOOTH__ENABLED=false HEARTHKEY_CLOCK__TRUSTED=true
export HEARTHKEY_CLOUD__CA_FILE=$place/ca.pem
"$program" hub --data-dir "$dir/hub" --https 127.0.0.1:0 --http 127.0.0.1:0 --mqtts 127.0.0.1:0 --announce-json --log warn >"$dir/hub.out" &
hub=$!
said=$(announced "$dir/hub.out" "$hub")
id=$(jq -r .hub_id <<<"$said") api=https://$(jq -r .https <<<"$said")/api/v1
# Its certificate is of its own CA, made a moment ago on this machine.
to_hub=(curl --silent --show-error --fail-with-body --insecure -H 'Content-Type: application/json')
owner=$(jq -n --arg code "$(jq -r .setup_code <<<"$said")" '{code: $code, username: "olga", password: "sieben Zwerge im Schuppen"}')
session=$("${to_hub[@]}" "$api/setup" -d "$owner" | jq -r .token)
to_hub+=(-H "Authorization: Bearer $session")
"${to_hub[@]}" -X PUT "$api/cloud" -d "$(jq -n --arg url "$url" --arg key "$key" --arg region "$region" \
    '{url: $url, key: $key, region: $region, consent: ["devices"], brands: ["acme"]}')" >/dev/null
until "${to_hub[@]}" "$api/cloud" | jq -e '.last_success != null' >/dev/null; do sleep 0.2; done
echo "hub before: $(memory "$hub")"
began=$(now)
batch=$("${signed_in[@]}" "$url/v1/hubs/$id/assignments" -H 'Content-Type: application/json' -d '{"upload":"some"}' | jq -r .id)
until state=$("${signed_in[@]}" "$url/v1/hubs/$id/assignments/$batch") && [[ $(jq -r .state <<<"$state") != wanted ]]; do sleep 0.2; done
echo "offered to the hub after $(since "$began"): $state"
until "${to_hub[@]}" "$api/brands" | jq -e --argjson all "$for_hub" '.brands[0].devices == $all' >/dev/null; do sleep 0.2; done
echo "recognised by the hub after $(since "$began")"
echo "hub after: $(memory "$hub") $(cpu "$hub"); its directory: $(du -sm "$dir/hub" | cut -f1) MB"
echo "cloud after: $(memory "$cloud") $(cpu "$cloud")"
