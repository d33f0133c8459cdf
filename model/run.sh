#!/bin/bash
# usage: ./run.sh NAME "-DCFG=n -D..." [extra pan.c flags]     one exhaustive safety check (assertions + invalid end states)
# Prints one line; exit status 0 = the search completed without an error, 1 = an error was found (counterexample left in
# $OUT/NAME, see trace.sh), 2 = anything else (did not compile, out of memory or time).
# BFS=1 finds a shortest counterexample; LIM = seconds (default 600), MEM = MB (default 4000), OUT = directory.
name=$1; defs=$2; extra=$3
here=$(cd "$(dirname "$0")" && pwd); d=${OUT:-$(mktemp -d)}/$name; mkdir -p "$d"; cd "$d" || exit 2; rm -f pan* *.trail
spin -a $defs "$here/run.pml" > spin.log 2>&1
[ -f pan.c ] || { cat spin.log; exit 2; }
cflags="${OPT:--O2} -DSAFETY -DCOLLAPSE -DMEMLIM=${MEM:-4000} -DVECTORSZ=2048 -w ${BFS:+-DBFS} $extra"
nice -n 15 gcc $cflags -o pan pan.c || exit 2
nice -n 15 timeout ${LIM:-600} ./pan -m${DEPTH:-1000000} > pan.log 2>&1; rc=$?
err=$(grep -o 'errors: [0-9]*' pan.log); st=$(grep -E 'states, stored' pan.log | awk '{print $1}')
dp=$(grep -oE 'depth reached [0-9]+' pan.log); el=$(grep -oE 'elapsed time [0-9.]+' pan.log | awk '{print $3}'); mem=$(grep -E 'total actual memory' pan.log | awk '{print $1}')
msg=$(grep -E '^pan: ?[0-9]+: |^pan:1: ' pan.log | head -1)
trunc=$(grep -oE 'max search depth too small|out of memory|reached -DMEMLIM bound|Search not completed' pan.log | sort -u | tr '\n' ';')
printf '%-16s | %s | states %s | %s s | %s MB | %s | %s | %s\n' "$name" "${err:-rc=$rc}" "$st" "$el" "$mem" "$defs $extra" "$dp" "$msg $trunc"
case "$err" in "errors: 0") [ $rc = 0 ] && [ -z "$trunc" ] && exit 0; exit 2;; "errors: "*) exit 1;; *) exit 2;; esac
