#!/bin/sh
# no_globals.sh NM OBJECT... -- fails if an object has a variable that can be
# written. The core is linked into several modules, each with a copy of its own:
# state in one of them would be unknown to the others.
set -eu
nm=$1
shift
found=$("$nm" "$@" | grep -E ' [bBdDC] ' || true)
if [ -n "$found" ]; then
    echo "writable globals in the core:"
    echo "$found"
    exit 1
fi
echo "no writable globals in $# objects"
