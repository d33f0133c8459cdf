#!/bin/bash
# Shows that the tests can see: weakens or breaks one thing at a time in a copy of the source and expects them to fail. A mutant
# that survives means that a test is missing, or that the ordering is stronger than it has to be.
#
#   crates/millpond-shm/mutants/run.sh [PART OF A NAME]          mutants/list, by the loom models: about 10 s a mutant
#   crates/millpond-shm/mutants/run.sh --crash [PART OF A NAME]  mutants/crash-list, by tests/crash_points: up to 3 min a mutant
#
#   crates/millpond-shm/mutants/run.sh --apply                   both lists: only that each still changes its file; seconds
#
# A mutant is three lines (name; file; a Perl substitution that must change the file) and an empty one.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ${1:-} == --apply ]]; then
    stale=0
    while read -r name; do
        [[ -z $name || $name == \#* ]] && continue
        read -r file
        read -r substitution
        if [[ $(perl -0pe "$substitution" "src/$file") == "$(cat "src/$file")" ]]; then
            echo "STALE     $name: the substitution changes nothing in src/$file"
            stale=$((stale + 1))
        fi
    done < <(cat mutants/list <(echo) mutants/crash-list)
    [[ $stale == 0 ]]
    exit
fi
list=list
if [[ ${1:-} == --crash ]]; then
    list=crash-list
    shift
fi
wanted=${1:-}
work=$(mktemp -d /tmp/millpond-mutants.XXXXXX)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-/tmp/millpond-mutants-target}
if [[ $list == list ]]; then
    tests=(--release --lib)
    filter=models
    export RUSTFLAGS="--cfg loom"
else
    tests=(--test crash_points)
    filter=${CRASH_TESTS:-}
fi
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

# A workspace of this crate alone.
mkdir -p "$work/crates/millpond-shm"
sed -e 's/^members = .*/members = ["crates\/millpond-shm"]/' -e '/^millpond/d' ../../Cargo.toml > "$work/Cargo.toml"
cp ../../Cargo.lock "$work/" 2>/dev/null || true
cp -r Cargo.toml tests "$work/crates/millpond-shm/"
sources="$work/crates/millpond-shm/src"

survivors=0
mutants=0
while read -r name; do
    [[ -z $name || $name == \#* ]] && continue
    read -r file
    read -r substitution
    [[ $name == *"$wanted"* ]] || continue
    rm -rf "$sources"
    cp -r src "$sources"
    perl -0pi -e "$substitution" "$sources/$file"
    if cmp -s "src/$file" "$sources/$file"; then
        echo "STALE     $name: the substitution changes nothing in $file"
        survivors=$((survivors + 1))
        continue
    fi
    mutants=$((mutants + 1))
    started=$SECONDS
    if ! (cd "$work" && cargo test -q -p millpond-shm "${tests[@]}" --no-run) > "$work/build" 2>&1; then
        echo "BROKEN    $name: does not compile"
        tail -5 "$work/build"
        survivors=$((survivors + 1))
        continue
    fi
    if (cd "$work" && timeout 600 cargo test -q -p millpond-shm "${tests[@]}" $filter) > "$work/log" 2>&1; then
        echo "SURVIVED  $name ($((SECONDS - started)) s)"
        survivors=$((survivors + 1))
    else
        # Which models or tests, and what the first of them saw.
        failed=$(sed -n 's/^    [a-z_]*:://p' "$work/log" | sort -u | tr '\n' ' ')
        saw=$(grep -m1 -oiE 'causality violation|deadlock|no execution reached|exceeded maximum|is corrupt|assertion|panicked' "$work/log" || echo "time out")
        echo "killed    $name: $saw; $failed($((SECONDS - started)) s)"
    fi
done < "mutants/$list"
echo "$mutants mutants, $survivors not killed"
[[ $survivors == 0 ]]
