#!/bin/bash
# Runs the model.  usage: ./all.sh [quick|full|core|ext|mutants] [name ...]
#   quick    (default) every mutant, and a smaller bound of every configuration; a few minutes on two slow cores
#   full     everything
#   core / ext / mutants   a part of full;   names restrict the run to those lines
# Every configuration ("ok") must complete with errors: 0, every mutant ("bad", one rule broken each) must say errors: 1.
# Exit status 0 only if all of that was so.  One run at a time, at most MEM (4000) MB.  Lines are kept in $OUT/results.txt.
cd "$(dirname "$0")" || exit 2
what=${1:-quick}; shift; only=" $* "
export OUT=${OUT:-$(mktemp -d)} MEM=${MEM:-4000}
mkdir -p "$OUT"; : > "$OUT/results.txt"
case $what in quick) export OPT=${OPT:--O0} LIM=${LIM:-120};; *) export OPT=${OPT:--O1} LIM=${LIM:-3600};; esac
n=0; wrong=0; start=$(date +%s)

run() {  # want(0|1) name defs [extra]
  local want=$1; shift
  [ "$only" != "  " ] && case "$only" in *" $1 "*) ;; *) return;; esac
  ./run.sh "$@" > "$OUT/line" 2>&1; local rc=$?
  n=$((n+1))
  if [ $rc = "$want" ]; then printf 'as expected  '; else printf 'UNEXPECTED   '; fi | tee -a "$OUT/results.txt"
  [ $rc = "$want" ] || wrong=$((wrong+1))
  tee -a "$OUT/results.txt" < "$OUT/line"
}
quick=; core=; ext=; mut=
case $what in quick) quick=1;; full) core=1; ext=1; mut=1;; core) core=1;; ext) ext=1;; mutants) mut=1;; *) echo "usage: all.sh quick|full|core|ext|mutants"; exit 2;; esac
okq() { [ -n "$quick$core" ] && run 0 "$@"; }      # core protocol, in quick as well
okf() { [ -n "$core" ] && run 0 "$@"; }            # core protocol, full only
oeq() { [ -n "$quick$ext" ] && run 0 "$@"; }       # extensions, in quick as well
oef() { [ -n "$ext" ] && run 0 "$@"; }             # extensions, full only
bad() { [ -n "$quick$mut" ] && run 1 "$@"; }       # mutants

# ---------------------------------------------------------------------------------------------- the core protocol
okf f1    "-DCFG=1 -DNS=2 -DCAP=1 -DNMSG=2 -DNPOP=2 -DMAXK=2"
okf f1b   "-DCFG=1 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=2 -DMAXK=2"
okq f1c   "-DCFG=1 -DNS=2 -DCAP=1 -DNMSG=1 -DNPOP=1 -DMAXK=3"
okq f2    "-DCFG=2 -DNS=2 -DCAP=1 -DNMSG=2 -DNPOP=2 -DMAXK=2"
okf f2b   "-DCFG=2 -DNS=2 -DCAP=1 -DNMSG=3 -DNPOP=2 -DMAXK=1"
okf f2c   "-DCFG=2 -DNS=2 -DCAP=2 -DNMSG=3 -DNPOP=2 -DMAXK=1"
okf f3    "-DCFG=3 -DNS=2 -DCAP=1 -DNMSG=2 -DNPOP=2 -DMAXK=1"
okf f3b   "-DCFG=3 -DNS=2 -DCAP=1 -DNMSG=2 -DNPOP=1 -DMAXK=2"
okq f3c   "-DCFG=3 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=2 -DMAXK=2 -DKM=18"
okf f3d   "-DCFG=3 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=2 -DMAXK=2 -DKM=6"
okf f4    "-DCFG=4 -DNS=1 -DCAP=1 -DNPOP=2 -DMAXK=2"
okq f4b   "-DCFG=4 -DNS=1 -DCAP=2 -DNPOP=2 -DMAXK=3"
okf f4c   "-DCFG=4 -DNS=1 -DCAP=1 -DNPOP=3 -DMAXK=2"
okq f5    "-DCFG=5 -DNS=1 -DNMSG=2 -DNPOP=2 -DMAXK=2"
okf f6    "-DCFG=6 -DNS=1 -DNT=3 -DHOPS=1 -DMAXK=2"
okf f6b   "-DCFG=6 -DNS=1 -DNT=3 -DHOPS=2 -DMAXK=1"
okf f6c   "-DCFG=6 -DNS=1 -DNT=3 -DHOPS=2 -DMAXK=2 -DKM=18"
okq f6d   "-DCFG=6 -DNS=1 -DNT=3 -DHOPS=2 -DMAXK=2 -DKM=6"
okf f7    "-DCFG=7 -DNS=1 -DNT=3 -DHOPS=2 -DMAXK=1"
okq f7b   "-DCFG=7 -DNS=1 -DNT=3 -DHOPS=1 -DMAXK=2 -DKM=18"
okf f7c   "-DCFG=7 -DNS=1 -DNT=3 -DHOPS=1 -DMAXK=2 -DKM=6"
okf f7d   "-DCFG=7 -DNS=1 -DNT=3 -DHOPS=1 -DMAXK=2 -DKM=17"
okf f7e   "-DCFG=7 -DNS=1 -DNT=3 -DHOPS=1 -DMAXK=2 -DKM=20"
okq f8    "-DCFG=8 -DNS=1 -DNT=3 -DNMSG=2 -DHOPS=3 -DMAXK=2"
okq f9    "-DCFG=9 -DNS=1 -DNT=2 -DMAXK=2"
okf f10   "-DCFG=10 -DNS=2 -DNT=1 -DCAP=1 -DMAXK=3"
okq f10b  "-DCFG=10 -DNS=1 -DNT=1 -DCAP=2 -DNPOP=3 -DMAXK=3"
okf f12   "-DCFG=12 -DNS=1 -DNT=1 -DCAP=1 -DMAXK=2"
okf f12b  "-DCFG=12 -DNS=2 -DNT=1 -DCAP=2 -DMAXK=1"
okq f13   "-DCFG=13 -DNS=2 -DNT=1 -DCAP=2 -DMAXK=2"
okf f14   "-DCFG=14 -DNS=2 -DNT=1 -DCAP=1 -DMAXK=2"
okf f15   "-DCFG=15 -DNS=2 -DNT=1 -DCAP=1 -DMAXK=1"
okf f15b  "-DCFG=15 -DNS=2 -DNT=1 -DCAP=1 -DNPOP=1 -DMAXK=2 -DKM=18"
okf f15c  "-DCFG=15 -DNS=2 -DNT=1 -DCAP=1 -DNPOP=1 -DMAXK=2 -DKM=6"
okq f16   "-DCFG=16 -DNS=2 -DNT=1 -DCAP=1 -DMAXK=2"
okq f17   "-DCFG=17 -DNS=1 -DNT=3 -DCAP=1 -DNMSG=1 -DNPOP=1 -DMAXK=2"
okf f17b  "-DCFG=17 -DNS=1 -DNT=3 -DCAP=1 -DNMSG=2 -DNPOP=2 -DMAXK=1"
okf f18   "-DCFG=18 -DNS=2 -DNMSG=2 -DNPOP=1 -DMAXK=2"
okf f19   "-DCFG=19 -DNS=2 -DNMSG=2 -DNPOP=2 -DMAXK=1"
okq f19b  "-DCFG=19 -DNS=2 -DNMSG=1 -DNPOP=2 -DMAXK=3"
okq f20   "-DCFG=20 -DNS=1 -DNT=3 -DNMSG=1 -DHOPS=3 -DMAXK=2"
okq f22   "-DCFG=22 -DNS=2 -DNMSG=2 -DNPOP=2 -DMAXK=2"
okq f23   "-DCFG=23 -DNS=1 -DNPOP=2 -DMAXK=3"
okq f23s  "-DCFG=23 -DSLANES -DNS=1 -DNPOP=2 -DMAXK=2"
# larger bounds, which did not fit into memory with the former killer process
okf f3e   "-DCFG=3 -DNS=2 -DCAP=1 -DNMSG=2 -DNPOP=2 -DMAXK=2"
okf f7f   "-DCFG=7 -DNS=1 -DNT=3 -DHOPS=2 -DMAXK=2"
okf f23t  "-DCFG=23 -DSLANES -DNS=1 -DNPOP=2 -DMAXK=3"
# without partial-order reduction
okf x1    "-DCFG=1 -DNS=2 -DCAP=1 -DNMSG=1 -DNPOP=1 -DMAXK=2" -DNOREDUCE
okf x9    "-DCFG=9 -DNS=1 -DNT=2 -DMAXK=1" -DNOREDUCE
okf x10   "-DCFG=10 -DNS=1 -DNT=1 -DCAP=1 -DMAXK=2" -DNOREDUCE
okf x23s  "-DCFG=23 -DSLANES -DNS=1 -DNPOP=2 -DMAXK=1" -DNOREDUCE
# ---------------------------------------------------------------------------------------------- the extensions
# (1) sleepers
oeq s34   "-DCFG=34 -DNS=2 -DCAP=1 -DNMSG=2 -DMAXK=3"
oef s34r  "-DCFG=34 -DNS=2 -DCAP=1 -DNMSG=2 -DMAXK=2 -DREALBELL -DFINE"
oef s34c  "-DCFG=34 -DNS=2 -DCAP=2 -DNMSG=3 -DMAXK=2"
oeq s34f  "-DCFG=34 -DNS=2 -DCAP=1 -DNMSG=2 -DMAXK=2 -DFIELDONLY"
oeq s33   "-DCFG=33 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=1 -DKM=19"
oef s33b  "-DCFG=33 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=2 -DKM=19"
oef s33c  "-DCFG=33 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=1 -DKM=19 -DFINE"
oeq s32   "-DCFG=32 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=1 -DKM=2"
oef s32b  "-DCFG=32 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=1"
oef s32n  "-DCFG=32 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=1 -DNOCO"
oef s32c  "-DCFG=32 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=2"
oeq s31   "-DCFG=31 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=1 -DKM=1"
oef s31b  "-DCFG=31 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=1"
oef s31c  "-DCFG=31 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=2 -DKM=17"
oef s31d  "-DCFG=31 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=2 -DKM=18"
# (2) redelivery mark
oeq r41   "-DCFG=41 -DNS=2 -DCAP=2 -DNMSG=2 -DMAXK=2"
oef r41b  "-DCFG=41 -DNS=2 -DCAP=2 -DNMSG=2 -DMAXK=3 -DRC2"
oeq r42   "-DCFG=42 -DNS=1 -DNT=3 -DCAP=1 -DNMSG=1 -DMAXK=2"
oef r42b  "-DCFG=42 -DNS=1 -DNT=3 -DCAP=1 -DNMSG=1 -DMAXK=3"
oef r42c  "-DCFG=42 -DNS=2 -DNT=3 -DCAP=1 -DNMSG=2 -DMAXK=2"
# (3) end of stream
oeq e51   "-DCFG=51 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=3"
oef e51b  "-DCFG=51 -DNS=2 -DCAP=1 -DNMSG=2 -DMAXK=2"
oef e51f  "-DCFG=51 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=2 -DFIELDONLY"
oef e52   "-DCFG=52 -DNS=2 -DCAP=1 -DNMSG=1 -DMAXK=1"
# (4) lost count
oeq l61   "-DCFG=61 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=1 -DMAXK=2"
oef l61b  "-DCFG=61 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=1 -DMAXK=3"
oef l61c  "-DCFG=61 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=2 -DMAXK=3"
oeq l62   "-DCFG=62 -DNS=2 -DCAP=1 -DNMSG=2 -DNPOP=1 -DMAXK=3"
# all together
oeq a71   "-DCFG=71 -DNS=1 -DNT=3 -DCAP=1 -DNMSG=1 -DMAXK=1 -DNORM -DKM=2"
oef a71b  "-DCFG=71 -DNS=1 -DNT=3 -DCAP=1 -DNMSG=1 -DMAXK=1 -DNORM"
oef a71c  "-DCFG=71 -DNS=1 -DNT=3 -DCAP=1 -DNMSG=1 -DMAXK=2 -DNORM"
oef a71d  "-DCFG=71 -DNS=1 -DNT=3 -DCAP=1 -DNMSG=1 -DMAXK=1 -DKM=2"
# ---------------------------------------------------------------------------------------------- mutants
bad m_nopos       "-DCFG=4 -DNS=1 -DMAXK=0 -DBUG_NOPOS"
bad m_nopos_dup   "-DCFG=4 -DNS=1 -DMAXK=1 -DBUG_NOPOS -DNOFIFO"
bad m_noprov      "-DCFG=12 -DNS=1 -DNT=1 -DCAP=1 -DMAXK=1 -DBUG_NOPROV"
bad m_undo_s      "-DCFG=2 -DNS=2 -DMAXK=1 -DBUG_UNDO_S"
bad m_dropnotag   "-DCFG=2 -DNS=2 -DMAXK=0 -DBUG_DROPNOTAG"
bad m_nohelp      "-DCFG=16 -DNS=2 -DNT=1 -DCAP=1 -DMAXK=1 -DBUG_NOHELP"
bad m_noctr_alloc "-DCFG=6 -DNS=1 -DNT=3 -DMAXK=0 -DHOPS=2 -DBUG_NOCLONECTR"
bad m_noctr_mut   "-DCFG=7 -DNS=1 -DNT=3 -DMAXK=0 -DHOPS=2 -DBUG_NOCLONECTR"
bad m_ctrfirst    "-DCFG=8 -DNS=1 -DNT=3 -DMAXK=0 -DHOPS=3 -DBUG_CTRFIRST"
bad m_tok0        "-DCFG=20 -DNS=1 -DNT=3 -DMAXK=0 -DHOPS=3 -DBUG_TOK0"
bad m_headfirst   "-DCFG=1 -DNS=2 -DMAXK=1 -DBUG_HEADFIRST"
bad m_pubfirst    "-DCFG=1 -DNS=2 -DMAXK=1 -DBUG_PUBFIRST"
bad m_noorphan    "-DCFG=1 -DNS=2 -DMAXK=1 -DBUG_NOORPHAN"
bad m_scanfirst   "-DCFG=1 -DNS=2 -DMAXK=1 -DBUG_SCANFIRST"
bad m_detachfirst "-DCFG=1 -DNS=2 -DMAXK=2 -DBUG_DETACHFIRST"
# (1) sleepers
bad m_s_noring    "-DCFG=34 -DNS=2 -DNMSG=2 -DMAXK=1 -DBUG_NORING"
bad m_s_reuse     "-DCFG=34 -DNS=2 -DNMSG=1 -DMAXK=1 -DR5_LANE -DSAFELEAVE"
bad m_s_leave     "-DCFG=34 -DNS=2 -DNMSG=1 -DMAXK=1 -DR5_LANE -DNOREUSE"
bad m_s_ringafter "-DCFG=34 -DNS=2 -DNMSG=1 -DMAXK=2 -DBUG_RINGAFTER"
bad m_s_ringone   "-DCFG=32 -DNS=2 -DNMSG=2 -DMAXK=1 -DRINGONE -DR5_LANE -DBUG_NOCOCONS -DSTAY -DNOREUSE -DSAFELEAVE"
bad m_s_ringone2  "-DCFG=32 -DNS=2 -DNMSG=2 -DMAXK=0 -DRINGONE"
bad m_s_flaglate  "-DCFG=34 -DNS=2 -DNMSG=2 -DMAXK=0 -DBUG_SLEEPLATE"
bad m_s_belllate  "-DCFG=34 -DNS=2 -DNMSG=2 -DMAXK=0 -DBUG_BELLLATE"
bad m_s_plainbell "-DCFG=31 -DNS=2 -DNMSG=1 -DMAXK=0 -DREALBELL -DBUG_PLAINBELL"
bad m_s_onelane   "-DCFG=31 -DNS=2 -DNMSG=1 -DMAXK=0 -DBUG_ONELANE"
# (2) redelivery mark
bad m_r_marklate  "-DCFG=41 -DNS=2 -DCAP=2 -DNMSG=1 -DMAXK=2 -DBUG_MARKLATE"
bad m_r_nomark    "-DCFG=41 -DNS=2 -DCAP=2 -DNMSG=1 -DMAXK=1 -DBUG_NOMARK"
bad m_r_fwdtaken  "-DCFG=42 -DNS=1 -DNT=3 -DNMSG=1 -DMAXK=1 -DBUG_FWDTAKEN"
bad m_r_fwdunmark "-DCFG=42 -DNS=1 -DNT=3 -DNMSG=1 -DMAXK=1 -DBUG_FWDUNMARKED"
# (3) end of stream
bad m_e_livelast  "-DCFG=51 -DNS=2 -DNMSG=1 -DMAXK=1 -DBUG_LIVELAST"
bad m_e_endfirst  "-DCFG=51 -DNS=2 -DNMSG=1 -DMAXK=0 -DBUG_ENDFIRST"
bad m_e_endearly  "-DCFG=51 -DNS=2 -DNMSG=1 -DMAXK=0 -DBUG_ENDEARLY"
# (4) lost count
bad m_l_addatonce "-DCFG=61 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=1 -DMAXK=2 -DBUG_LOSTBOTH"
bad m_l_late      "-DCFG=61 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=1 -DMAXK=2 -DBUG_LOSTLATE"
bad m_l_zeroadd   "-DCFG=61 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=1 -DMAXK=2 -DBUG_LOSTATONCE"
bad m_l_anynext   "-DCFG=61 -DNS=2 -DCAP=2 -DNMSG=2 -DNPOP=1 -DMAXK=3 -DBUG_ANYNEXT"

echo "$n runs, $wrong not as expected, $(( $(date +%s) - start )) s; lines in $OUT/results.txt" | tee -a "$OUT/results.txt"
[ $wrong = 0 ] && [ $n -gt 0 ]
