#!/bin/sh
# Checks what the build needs and names what is missing, one line each, before anything is built.
# Usage: tools/doctor.sh [PYTHON]        exit 0: all there; 1: something is missing
python=${1:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
missing=0

lacks() {
    echo "mqlog: cannot build: $1" >&2
    missing=1
}

# At least: `at_least HAVE WANT`, both dotted numbers.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$2" ]
}

if ! command -v "$python" >/dev/null 2>&1; then
    lacks "CPython >= 3.11 is missing ($python not found): install it or run make PYTHON=/path/to/python3"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) or sys.implementation.name != "cpython")' 2>/dev/null; then
    lacks "CPython >= 3.11 is missing ($python is $("$python" -V 2>&1 | head -n 1)): run make PYTHON=/path/to/python3"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    lacks "$python has no venv module: install it (Debian: apt-get install python3-venv)"
elif ! "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'; then
    lacks "$python has no C headers (Python.h): install them (Debian: apt-get install python3-dev)"
fi

wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
if ! command -v cargo >/dev/null 2>&1 || ! command -v rustc >/dev/null 2>&1; then
    lacks "a stable Rust toolchain >= $wanted is missing (cargo or rustc not found): install it with rustup"
else
    have=$(cd "$root" && rustc --version 2>/dev/null | sed 's/^rustc \([0-9.]*\).*/\1/')
    if [ -z "$have" ]; then
        lacks "a stable Rust toolchain >= $wanted is missing (rustc does not run): rustup default stable"
    elif ! at_least "$have" "$wanted"; then
        lacks "a stable Rust toolchain >= $wanted is missing (rustc is $have): rustup update stable"
    fi
fi

if ! command -v "${CC:-cc}" >/dev/null 2>&1; then
    lacks "a C compiler is missing (${CC:-cc} not found): install gcc or clang (Debian: apt-get install build-essential)"
fi

if ! command -v make >/dev/null 2>&1; then
    lacks "make is missing: install it (Debian: apt-get install make)"
fi

exit $missing
