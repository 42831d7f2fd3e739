# shellcheck shell=dash
# What the stories in the guest have in common.
readonly CONFIG=/etc/hearthkey/hub.toml API=https://localhost:8443/api/v1 KEPT=/var/lib/story

say() {
    printf '[%s s] %s\n' "$(cut -d ' ' -f 1 /proc/uptime)" "$*" >/dev/console
}
# What the test looks for begins a line, wherever the console was.
figure() {
    printf '\nFIGURE %s %s\n' "$1" "$2" >/dev/console
}
leave() {
    printf '\nVERDICT %s\n' "$*" >/dev/console
    sync
    systemctl --no-block poweroff
    exit 0
}
fail() {
    say "FAILED: $*"
    journalctl --unit hearthkey --no-pager --output cat --lines 60 >/dev/console 2>&1
    leave 1 "$*"
}
# there SECONDS COMMAND...: whether it becomes so.
there() {
    end=$(($(cut -d . -f 1 /proc/uptime) + $1))
    shift
    while ! "$@" >/dev/null 2>&1; do
        if [ "$(cut -d . -f 1 /proc/uptime)" -ge "$end" ]; then return 1; fi
        sleep 0.5
    done
}
property() { # of the service
    systemctl show hearthkey.service --property "$1" --value
}
memory() { # FIGURE: what the service and its files took at their most; nothing of it was ended for want of memory
    group=/sys/fs/cgroup/system.slice/hearthkey.service
    figure "$1" $(($(cat $group/memory.peak) / 1024))
    grep -q '^oom_kill 0$' $group/memory.events || fail "memory ran out: $(tr '\n' ' ' <$group/memory.events)"
}
healthy() {
    there 240 hearthkey doctor --health --config "$CONFIG"
}
api() { # METHOD PATH BODY
    curl --silent --show-error --insecure --max-time 60 --fail --request "$1" --header "authorization: Bearer $(cat $KEPT/token)" \
        --header 'content-type: application/json' ${3:+--data "$3"} "$API$2"
}
as_hub() {
    setpriv --reuid hearthkey --regid hearthkey --clear-groups "$@"
}
field() { # NAME, of the JSON on standard input
    sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p"
}
# shellcheck disable=SC2317,SC2329
ended() { # HOW VERSION: whether the last update ended so, called through `there`
    status=$(hearthkey update status --json --config "$CONFIG" 2>/dev/null)
    [ "$(echo "$status" | field ended)" = "$1" ] && [ "$(echo "$status" | field current)" = "$2" ]
}
serves() {
    there 600 systemctl --quiet is-active hearthkey.service || fail "the hub is not active after 600 s"
    healthy || fail "the hub is active, and does not serve: $(hearthkey doctor --health --config "$CONFIG" 2>&1)"
}
becomes_owner() { # by the code in the journal; the token is kept
    code=$(journalctl --unit hearthkey --no-pager --output cat | sed -n 's/.*setup code: *\([^ ]*\).*/\1/p' | tail -n 1)
    [ -n "$code" ] || fail "the journal has no setup code"
    curl --silent --show-error --insecure --fail --max-time 120 --header 'content-type: application/json' \
        --data "{\"code\":\"$code\",\"username\":\"mia\",\"password\":\"a long enough pass phrase 7\"}" "$API/setup" >"$KEPT/setup" ||
        fail "the setup was refused: $(cat "$KEPT/setup")"
    field token <"$KEPT/setup" >"$KEPT/token"
    [ -s "$KEPT/token" ] || fail "the setup gave no token"
    api GET /me >/dev/null || fail "the owner cannot look at the account"
}
begins() { # the story that the command line names
    # shellcheck disable=SC2034
    story=$(sed -n 's/.*story=\([a-z]*\).*/\1/p' /proc/cmdline)
    mkdir -p "$KEPT"
    say "the story: $story"
}
