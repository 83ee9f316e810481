#!/bin/sh
# cross.sh CORE_DIR -- every source of the core compiles for systems that we do
# not run, against their real headers. Needs a Python with the package ziglang:
# $ZIG_PYTHON, the venv build/venv/zig, or python3. Exit status 77: there is none.
set -eu
core=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

for python in "${ZIG_PYTHON:-}" "$root/build/venv/zig/bin/python" python3; do
    if [ -n "$python" ] && "$python" -c 'import ziglang' 2>/dev/null; then
        break
    fi
    python=
done
if [ -z "$python" ]; then
    echo "skipped: no Python with ziglang (pip install ziglang)"
    exit 77
fi

failed=0
for target in x86_64-macos aarch64-macos x86_64-freebsd; do
    for source in "$core"/*.c; do
        if ! "$python" -m ziglang cc -target "$target" -std=c11 -Wall -Wextra -Werror \
                -D_GNU_SOURCE -c "$source" -o "$out/object.o"; then
            echo "failed: $target $source"
            failed=1
        fi
    done
    echo "$target: done"
done
exit $failed
