#!/bin/sh
# Runs sections of the bench and samples the call stacks of each `smartpos serve` with perf; prints where the processor time went.
# Called by `make profile`, which has built everything. Called by the bench in place of `smartpos`, it starts that under perf.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/target/profile
smartpos=$root/target/release/smartpos

if [ -n "${UNDER_PROFILE:-}" ]; then
    unset UNDER_PROFILE
    if [ "${1:-}" = serve ]; then
        data=$out/$$
        # Attached to this shell, so that it follows all threads of what the shell becomes. Started by a subshell that ends: a child of
        # the server would be counted as part of it. 99 a second on each processor: not in step with timers of 10 ms.
        (
            perf record -F 99 --call-graph dwarf,16384 -o "$data.perf" -p $$ >"$data.log" 2>&1 &
            echo $! >"$data.pid"
        )
        sleep 2
    fi
    exec "$smartpos" "$@"
fi

command -v perf >/dev/null || {
    echo 'perf is not installed: apt-get install linux-perf (Debian) or linux-tools-generic (Ubuntu)' >&2
    exit 1
}
rm -rf "$out"
mkdir -p "$out"
# Not the figures that `make bench` gives: taking samples costs something, too.
UNDER_PROFILE=1 PROGRAM_UNDER_TEST=$root/scripts/profile.sh "$root/target/release/examples/bench" \
    $([ -n "${FULL:-}" ] || echo --quick) --out "$out/bench" "$@"

# perf writes what it has when the process that it follows has ended. One that nobody reaped has no command line.
for file in "$out"/*.pid; do
    pid=$(cat "$file")
    waited=0
    while [ $waited -lt 120 ] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -q 'perf record'; do
        sleep 1
        waited=$((waited + 1))
    done
done

# Lines of inlined functions are not looked up: that takes many minutes, and names the same functions.
top() {
    perf report -i "$1" --stdio --no-inline -g none --percent-limit 0.3 --sort symbol "$2" 2>/dev/null |
        grep -v '^#' | grep -v '^$' | head -"${TOP:-40}"
}
found=0
for data in "$out"/*.perf; do
    [ -s "$data" ] || { echo "nothing was recorded, see $out/*.log" >&2; exit 1; }
    found=$((found + 1))
    printf '\nserver %s of this run (%s)\n\nby what a function does itself, %%:\n' "$found" "$data"
    top "$data" --no-children
    printf '\nby what it does with all that it calls, %% with the children, %% itself:\n'
    top "$data" --children
done
printf '\nmore: perf report -i %s/<number>.perf --no-inline\n' "$out"
