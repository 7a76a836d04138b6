#!/usr/bin/env bash
# Installs what the platform and its tests need and the machine lacks: PostgreSQL (the server programs only), nats-server,
# a C compiler, pkg-config; for the tests redis-server, Python's venv, Node.js and npm. Safe to run again: every tool is looked for first, and nothing is done when all are there.
# No system-wide PostgreSQL or NATS service is needed; `smartpos up` runs its own in its data directory.
set -euo pipefail

say() { printf '%-14s %s\n' "$1" "$2"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Prints the place of a PostgreSQL server program. Debian keeps them out of PATH.
postgres_bin() {
    local candidate
    for candidate in "${SMARTPOS_PG_BIN:-}" $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV); do
        if [[ -n $candidate && -x $candidate/postgres && -x $candidate/initdb ]]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    if command -v postgres >/dev/null && command -v initdb >/dev/null; then
        dirname "$(command -v postgres)"
        return
    fi
    return 1
}

nats_bin() { PATH="$PATH:/usr/sbin:/usr/local/bin" command -v nats-server; }

# Only tests run one; the platform needs none.
redis_bin() { PATH="$PATH:/usr/sbin:/usr/local/bin" command -v redis-server; }

is_installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

packages=()
need() { # need <what> <package> <command that prints where it is>
    local where
    if where=$("${@:3}" 2>/dev/null) && [[ -n $where ]]; then
        say "$1" "ok: $where"
    else
        say "$1" "missing: will install $2"
        packages+=("$2")
    fi
}

need postgresql postgresql postgres_bin
need nats-server nats-server nats_bin
need redis-server redis-server redis_bin
need "C compiler" gcc command -v cc
need pkg-config pkg-config command -v pkg-config
need make make command -v make
# The tests check signatures of webhooks with the verifiers that their receivers use.
has_venv() { python3 -c 'import ensurepip, venv' && command -v python3; }
need "python3 venv" python3-venv has_venv
need node nodejs command -v node
need npm npm command -v npm

if ((${#packages[@]})); then
    command -v apt-get >/dev/null \
        || fail "no apt-get on this system: install these yourself: ${packages[*]}"
    if ((EUID == 0)); then
        as_root=(env)
    elif command -v sudo >/dev/null; then
        as_root=(sudo env)
    else
        fail "installing ${packages[*]} needs root: run this as root, or install sudo"
    fi

    # Debian would create and start a cluster of its own on port 5432. Where its tooling is not installed yet, say no
    # first; where it is, its settings are somebody's choice and stay.
    if [[ " ${packages[*]} " == *" postgresql "* ]] && ! is_installed postgresql-common; then
        conf=/etc/postgresql-common/createcluster.conf
        if [[ ! -e $conf ]]; then
            "${as_root[@]}" mkdir -p "${conf%/*}"
            printf '%s\n' 'create_main_cluster = false' | "${as_root[@]}" tee "$conf" >/dev/null
            say "createcluster" "off: no default cluster"
        fi
    fi

    say "apt-get" "installing ${packages[*]}"
    apt_options=(-y -q --no-install-recommends -o Dpkg::Options::=--force-confold)
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get update -q \
        || say "apt-get" "update failed: trying with the lists at hand"
    # Run level 1: Debian starts no service of a package that it installs.
    "${as_root[@]}" RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
        apt-get install "${apt_options[@]}" "${packages[@]}"

    where=$(postgres_bin) || fail "PostgreSQL is still missing"
    say postgresql "ok: $where"
    where=$(nats_bin) || fail "nats-server is still missing"
    say nats-server "ok: $where"
    where=$(redis_bin) || fail "redis-server is still missing"
    say redis-server "ok: $where"
    command -v cc >/dev/null || fail "the C compiler is still missing"
fi

if ! command -v cargo >/dev/null && [[ -x $HOME/.cargo/bin/cargo ]]; then
    fail "cargo is in $HOME/.cargo/bin, which is not in PATH: run . \"\$HOME/.cargo/env\""
fi
command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
found=$(cargo --version | cut -d' ' -f2)
[[ $(printf '%s\n%s\n' "$wanted" "${found%%-*}" | sort -V | head -n1) == "$wanted" ]] \
    || fail "cargo $found is older than $wanted: run rustup update stable"
say cargo "ok: $found"
