#!/bin/bash
# trace.sh DIR "DEFS": print the counterexample that run.sh left in $OUT/NAME, compactly
here=$(cd "$(dirname "$0")" && pwd); cp "$here"/*.pml "$1"/; cd "$1" || exit 2
spin $2 -t -p run.pml 2>&1 | grep -E '^ *[0-9]+:.*proc|assert|spin:' | grep -vE '\[\(1\)\]|\[else\]|\[break\]|goto|\(run |dead\[me\]|kills<'
