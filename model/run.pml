/* run.pml - configurations; -DCFG=n picks one.  1..23: the core protocol.  31..: sleepers, 41..: redelivery mark,
 * 51..: end of stream, 61..: lost count, 71: all of them together.  See README.md. */
#if CFG==1      /* exclusive lane, 1 producer -> 1 consumer, restart of either end, X pool */
#define SL(l) 0
#elif CFG==2    /* shared lane: producer drops oldest, 1 consumer, restart of the consumer */
#define SL(l) 1
#elif CFG==3    /* shared lane: two competing consumers in two processes, producer waits when full */
#define SL(l) 1
#elif CFG==4    /* shared lane: one process owns both ends (2 threads) and forwards back into the same lane; a 2nd consumer process competes */
#define SL(l) 1
#elif CFG==5    /* pipeline 1 -A-> 2 -B-> 3, tokens forwarded */
#define SL(l) 0
#define NL 2
#elif CFG==6    /* fan-out to two lanes; consumers clone + release the original ("hop"); producer re-allocates */
#define SL(l) 0
#define NL 2
#elif CFG==7    /* as 6 with make_mut by both consumers */
#define SL(l) 0
#define NL 2
#elif CFG==8    /* shared pool: two allocators that clone and hop */
#define SL(l) 0
#define SHAREDPOOL
#elif CFG==9    /* in-process clones of one token (private count), last one out releases, one thread pushes */
#define SL(l) 0
#elif CFG==10   /* exclusive lane, single process owns both ends (2 threads), forwards back into the same lane */
#define SL(l) 0
#elif CFG==12   /* at-least-once: peek, work, commit; the consumer also allocates from the same pool */
#define SL(l) 0
#define SHAREDPOOL
#elif CFG==13   /* batches of two */
#define SL(l) 0
#elif CFG==14   /* teardown by a process that may crash; producer and consumer both died; X and S lane */
#define SL(l) ((l)==1)
#define NL 2
#elif CFG==15   /* shared lane: two consumers AND dropping producer */
#define SL(l) 1
#elif CFG==16   /* shared lane in a wait-when-full set-up where waiting really blocks: nobody may be stuck behind a dead claimant */
#define SL(l) 1
#elif CFG==18   /* shared lane: two threads of one consumer process, dropping producer */
#define SL(l) 1
#elif CFG==19   /* shared lane, dropping producer is restarted while the consumer runs */
#define SL(l) 1
#elif CFG==20   /* shared pool: as 8, and the unique holder clones with plain stores */
#define SL(l) 0
#define SHAREDPOOL
#elif CFG==22   /* exclusive lane: graceful hand-over of the consuming end to another live process */
#define SL(l) 0
#elif CFG==23   /* two processes play ping-pong with one buffer over two lanes (-DSLANES: shared lanes) */
#ifdef SLANES
#define SL(l) 1
#else
#define SL(l) 0
#endif
#define NL 2
#elif CFG==17   /* fan-out + forward of a popped clone into a shared lane with a dropping forwarder + make_mut */
#define SL(l) ((l)==1)
#define NL 2
#elif CFG==31   /* sleepers: one consumer waits for two lanes with one bell; two producers, waiting for room */
#define SL(l) 0
#define NL 2
#define SLEEP
#define EOS
#elif CFG==32   /* sleepers: two competing consumers of a shared lane, producer waits for room */
#define SL(l) 1
#define SLEEP
#define EOS
#define TWOCONS
#elif CFG==33   /* sleepers that are not content with "peer died": they wait for the restarted other end */
#define SL(l) 0
#define SLEEP
#define EOS
#define PATIENT
#elif CFG==34   /* sleepers, one to one, every kind of early leaving */
#define SL(l) 0
#define SLEEP
#define EOS
#elif CFG==41   /* redelivery mark: take ahead, finish in order, restarted consumer */
#define SL(l) 0
#define REDEL
#elif CFG==42   /* redelivery mark: 1 -A-> 2 -B-> 3, 2 forwards a clone of what it has taken; 4 restarts 2 */
#define SL(l) 0
#define NL 2
#define REDEL
#elif CFG==51   /* end of stream, exclusive lane, restarted producer */
#define SL(l) 0
#define EOS
#elif CFG==52   /* end of stream, shared lane, two consumers */
#define SL(l) 1
#define EOS
#define TWOCONS
#elif CFG==61   /* lost count: shared lane, two consumers that keep what they popped */
#define SL(l) 1
#define LOST
#elif CFG==62   /* lost count: 1 -A-> 2 -B-> 3, exclusive lanes, 2 forwards the popped token or keeps it */
#define SL(l) 0
#define NL 2
#define LOST
#elif CFG==71   /* all features: 1 -A-> 2 -B-> 3 with sleepers, take/finish, forwarded clones, end of stream, lost count */
#define SL(l) 0
#define NL 2
#define SLEEP
#define REDEL
#define EOS
#define LOST
#endif


#include "base.pml"
#include "ops.pml"

#define ALLENDED (ENDED(1) && ENDED(2) && ENDED(3) && ENDED(4))
#define MUTEXFREE (mutex == 0 || dead[mutex])

proctype Recoverer(byte me) {
  LOCALS; byte d;
  {
    do
    :: atomic { !dead[me] && MUTEXFREE && (me == 5 || dead[5]) && (NEEDREC(1)||NEEDREC(2)||NEEDREC(3)||NEEDREC(4)) ->
         mutex = me;
         if :: NEXT(1) -> d = 1 :: NEXT(2) -> d = 2 :: NEXT(3) -> d = 3 :: NEXT(4) -> d = 4 fi };
       recover(d);
       atomic { G recov[d] = 1;
#ifndef NOREUSE
                      pst[d] = 0;
#endif
                      d = 0 };                           /* R6: slot := FREE, may be used again at once */
       atomic { G mutex = 0 }
    :: atomic { !dead[me] && ALLENDED && !(NEEDREC(1)||NEEDREC(2)||NEEDREC(3)||NEEDREC(4)) -> break }
    :: atomic { MAYDIE -> KILL; goto died }
    od;
    atomic { G fin[me] = 1 }
  };
  died: atomic { RESET; d = 0 }
}

proctype Auditor() {
  byte me = 6; LOCALS; byte k;       /* also tries a teardown of every lane: whatever is left must come out */
  atomic { ALLENDED && MUTEXFREE && fin[6] && (fin[5] || dead[5]) };
  teardown(0);
#if NL > 1
  teardown(1);
#endif
  atomic {
    audit_state();
    k = 0;
    do
    :: k < NL*MAXP ->
       if :: (k % MAXP < npub[k / MAXP]) -> assert(taken[k]);                                       /* I3 nothing lost */
             assert(SL(k/MAXP) || ret[k] || dropped[k])                                              /* I3 X lane: nothing swallowed by a dead consumer */
          :: else -> skip fi; k++
    :: else -> break
    od;
    k = 0
  };
  died: skip
}

/* helpers for scripts */
#define TRY_ALLOC(rf) do :: alloc(rf); if :: ok -> break :: else -> if :: skip :: break fi fi od
#define GET_MUTEX W(MUTEXFREE && !(NEEDREC(1)||NEEDREC(2)||NEEDREC(3)||NEEDREC(4)), mutex = me)
/* attach rule: mutex free or its holder dead, and the lane's field is 'none' (set by the recoverer's R5, after R1..R4) */
#define GETC(l) W(MUTEXFREE && cons[l] == 0, mutex = me)
#define GETP(l) W(MUTEXFREE && prod[l] == 0, mutex = me)
#define GETCP(l,m) W(MUTEXFREE && cons[l] == 0 && prod[m] == 0, mutex = me)
#define PUT_MUTEX atomic { G mutex = 0 }
/* wait for room, or give up */
#define WAIT_ROOM(l) do :: is_full(l); if :: !ok -> ok = 1; break :: else -> ok = 0; if :: skip :: break fi fi od
#define END_OK atomic { G fin[me] = 1 }
#define DIES ; died: atomic { RESET; cnt = 0 }

/* produce n messages into lane l, waiting when full */
inline produce_wait(l, n) {
  v = 0; cnt = 0;
  do
  :: cnt < n -> TRY_ALLOC(ref);
     if :: ok -> WAIT_ROOM(l); if :: ok -> push(l,ref) :: else -> release(ref) fi :: else -> skip fi; cnt++
  :: else -> break
  od; cnt = 0
}
inline produce_drop(l, n) {
  cnt = 0;
  do
  :: cnt < n -> TRY_ALLOC(ref);
     if :: ok -> do :: is_full(l); if :: ok -> drop_oldest(l) :: else -> break fi od; push(l,ref) :: else -> skip fi; cnt++
  :: else -> break
  od; cnt = 0
}
/* consume up to n, giving up at will when empty */
inline consume_x(l, n) {
  cnt = 0;
  do
  :: cnt < n -> pop_x(l,ref); if :: ok -> release(ref); cnt++ :: else -> if :: cnt = cnt+0 :: break fi fi
  :: else -> break
  od; cnt = 0
}
inline consume_s(l, n) {
  cnt = 0;
  do
  :: cnt < n -> pop_s(l,ref); if :: ok -> release(ref); cnt++ :: else -> if :: cnt = cnt+0 :: break fi fi
  :: else -> break
  od; cnt = 0
}
#define NOBODY(w) fin[w] = 1

#if CFG==1
proctype P(byte me) { LOCALS; byte cnt; { produce_wait(0, NMSG); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { consume_x(0, NPOP); END_OK } DIES }
proctype RC(byte me) { LOCALS; byte cnt;     /* restarted consumer */
  { if :: GETC(0); attach_cons(0); PUT_MUTEX; consume_x(0, NPOP) :: W(fin[2], skip) fi; END_OK } DIES }
proctype RP(byte me) { LOCALS; byte cnt;     /* restarted producer */
  { if :: GETP(0); attach_prod(0); PUT_MUTEX; produce_wait(0, 1) :: W(fin[1], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; run P(1); run C(2); run RC(3); run RP(4); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==2
proctype P(byte me) { LOCALS; byte cnt; { produce_drop(0, NMSG); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { consume_s(0, NPOP); END_OK } DIES }
proctype RC(byte me) { LOCALS; byte cnt;
  { if :: GETC(0); attach_cons(0); PUT_MUTEX; consume_s(0, NPOP) :: W(fin[2], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(4); run P(1); run C(2); run RC(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==3 || CFG==15
#if CFG==3
proctype P(byte me) { LOCALS; byte cnt; { produce_wait(0, NMSG); END_OK } DIES }
#else
proctype P(byte me) { LOCALS; byte cnt; { produce_drop(0, NMSG); END_OK } DIES }
#endif
proctype C(byte me) { LOCALS; byte cnt; { consume_s(0, NPOP); END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(4); run P(1); run C(2); run C(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==4 || CFG==10
/* process 1 = two threads. plock/tfin: in-process push lock and thread join; they die with the process. */
bool plock; bool tdone;
proctype T1(byte me) { LOCALS; byte cnt;
  { TRY_ALLOC(ref);
    if :: ok -> W(!plock, plock = 1); is_full(0);
                if :: !ok -> push(0,ref) :: else -> release(ref) fi; atomic { G plock = 0 }
       :: else -> skip fi;
    W(tdone, fin[me] = 1) } DIES }
proctype T2(byte me) { LOCALS; byte cnt;
  { cnt = 0;
    do
    :: cnt < NPOP ->
#if CFG==4
       pop_s(0,ref);
#else
       pop_x(0,ref);
#endif
       if
       :: ok -> if
                :: cnt == 0 -> W(!plock, plock = 1); is_full(0);     /* forward it back into the lane it came from */
                   if :: !ok -> push(0,ref) :: else -> release(ref) fi; atomic { G plock = 0 }
                :: else -> release(ref)
                fi; cnt++
       :: else -> if :: cnt = cnt+0 :: break fi
       fi
    :: else -> break
    od; cnt = 0;
    atomic { G tdone = 1 } } DIES }
#if CFG==4
proctype C(byte me) { LOCALS; byte cnt; { consume_s(0, NPOP); END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 1; NOBODY(3); NOBODY(4); run T1(1); run T2(1); run C(2); run Recoverer(5); run Recoverer(6); run Auditor() } }
#else
proctype RC(byte me) { LOCALS; byte cnt;
  { if :: GETCP(0,0); attach_cons(0); attach_prod(0); PUT_MUTEX; consume_x(0, NPOP); produce_wait(0,1) :: W(fin[1], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 1; NOBODY(2); NOBODY(4); run T1(1); run T2(1); run RC(3); run Recoverer(5); run Recoverer(6); run Auditor() } }
#endif

#elif CFG==5
proctype P(byte me) { LOCALS; byte cnt; { produce_wait(0, NMSG); END_OK } DIES }
proctype M(byte me) { LOCALS; byte cnt;
  { cnt = 0;
    do
    :: cnt < NPOP -> pop_x(0,ref);
       if :: ok -> WAIT_ROOM(1); if :: ok -> push(1,ref) :: else -> release(ref) fi; cnt++
          :: else -> if :: cnt = cnt+0 :: break fi fi
    :: else -> break
    od; cnt = 0; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { consume_x(1, NPOP); END_OK } DIES }
proctype RM(byte me) { LOCALS; byte cnt;     /* restarted middle process */
  { if :: GETCP(0,1); attach_cons(0); attach_prod(1); PUT_MUTEX;
          pop_x(0,ref); if :: ok -> WAIT_ROOM(1); if :: ok -> push(1,ref) :: else -> release(ref) fi :: else -> skip fi
       :: W(fin[2], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 2; cons[1] = 3; run P(1); run M(2); run C(3); run RM(4); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==6 || CFG==7
proctype P(byte me) { LOCALS; byte cnt;
  { TRY_ALLOC(ref);
    if :: ok -> clone_u(ref,ref2); assert(ok); push(0,ref); push(1,ref2) :: else -> skip fi;
    TRY_ALLOC(ref); if :: ok -> release(ref) :: else -> skip fi;
    END_OK } DIES }
proctype C(byte me; byte ln) { LOCALS; byte cnt;
  { do :: pop_x(ln,ref); if :: ok -> break :: else -> if :: skip :: break fi fi od;
    if
    :: ok ->
#if CFG==7
       unique(ref); if :: ok -> atomic { G g_mut(ref) }; atomic { G g_unmut(ref) } :: else -> skip fi;
#endif
       cnt = 0;
       do
       :: cnt < HOPS ->
          clone(ref,ref2);
          if :: ok -> release(ref); ref = ref2; ref2 = 0 :: else -> skip fi;
#if CFG==7
          unique(ref); if :: ok -> atomic { G g_mut(ref) }; atomic { G g_unmut(ref) } :: else -> skip fi;
#endif
          cnt++
       :: else -> break
       od; cnt = 0;
       release(ref)
    :: else -> skip
    fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 1; cons[1] = 3; NOBODY(4); run P(1); run C(2,0); run C(3,1); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==8
proctype A(byte me) { LOCALS; byte cnt, hop;
  { cnt = 0;
    do
    :: cnt < NMSG ->
       TRY_ALLOC(ref);
       if
       :: ok ->
          hop = 0;
          do
          :: hop < HOPS ->
             clone(ref,ref2);
             if :: ok -> release(ref); ref = ref2; ref2 = 0 :: else -> skip fi;
             hop++
          :: else -> break
          od; hop = 0;
          unique(ref); if :: ok -> atomic { G g_mut(ref) }; atomic { G g_unmut(ref) } :: else -> skip fi;
          release(ref)
       :: else -> skip
       fi; cnt++
    :: else -> break
    od; cnt = 0; END_OK } DIES }
init { atomic { NOBODY(3); NOBODY(4); run A(1); run A(2); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==9
/* threads T1,T2 of process 1 share one token through a private count; T2 wants to push it */
byte pcnt; bool t1done; byte shref; bool shared_ok;
inline drop_local() { atomic { G pcnt--; ok = (pcnt == 0) }; if :: ok -> release(shref) :: else -> skip fi }
proctype T1(byte me) { LOCALS; byte cnt;
  { TRY_ALLOC(ref);
    if :: ok -> atomic { G shref = ref; pcnt = 2; shared_ok = 1 }; drop_local() :: else -> skip fi;
    atomic { G t1done = 1 } } DIES }
proctype T2(byte me) { LOCALS; byte cnt;
  { if
    :: W(shared_ok, ok = (pcnt == 1));
       if :: ok -> push(0,shref)                                 /* only handle in this process */
          :: else -> clone(shref,ref2); if :: ok -> push(0,ref2) :: else -> skip fi; drop_local() fi
    :: W(t1done && !shared_ok, skip)
    fi;
    W(t1done, skip);
    TRY_ALLOC(ref); if :: ok -> release(ref) :: else -> skip fi; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { consume_x(0, 1); END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(3); NOBODY(4); run T1(1); run T2(1); run C(2); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==12
bool cadone;
proctype P(byte me) { LOCALS; byte cnt; { produce_wait(0, NMSG); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt;
  { cnt = 0;
    do
    :: cnt < NPOP -> if :: skip; peek_commit_x(0) :: skip; pop_x(0,ref); if :: ok -> release(ref) :: else -> skip fi fi;
                     if :: ok -> cnt++ :: else -> if :: cnt = cnt+0 :: break fi fi
    :: else -> break
    od; cnt = 0; W(cadone, skip); END_OK } DIES }
/* second thread of the consumer process: allocates from the same pool */
proctype CA(byte me) { LOCALS; byte cnt; { TRY_ALLOC(ref); if :: ok -> release(ref) :: else -> skip fi; atomic { G cadone = 1 } } DIES }
proctype RC(byte me) { LOCALS; byte cnt;
  { if :: GETC(0); attach_cons(0); PUT_MUTEX; consume_x(0, NPOP) :: W(fin[2], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(4); run P(1); run C(2); run CA(2); run RC(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==13
proctype P(byte me) { LOCALS; byte cnt;
  { TRY_ALLOC(ref);
    if :: ok -> TRY_ALLOC(ref2);
                if :: ok -> push2(0,ref,ref2) :: else -> release(ref) fi
       :: else -> skip fi; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt;
  { do :: pop2_x(0,ref,ref2); if :: ok -> release(ref); release(ref2); break :: else -> if :: skip :: break fi fi od; END_OK } DIES }
proctype RC(byte me) { LOCALS; byte cnt;
  { if :: GETC(0); attach_cons(0); PUT_MUTEX; consume_x(0, NPOP) :: W(fin[2], skip) fi; END_OK } DIES }
proctype RP(byte me) { LOCALS; byte cnt;
  { if :: GETP(0); attach_prod(0); PUT_MUTEX; produce_wait(0, 1) :: W(fin[1], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; run P(1); run C(2); run RC(3); run RP(4); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==14
/* 1 produces into both lanes, 2 consumes both; 3 removes the lanes once 1 and 2 have ended, and may crash doing so */
proctype P(byte me) { LOCALS; byte cnt; { produce_wait(0, 1); produce_drop(1, NMSG); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { consume_x(0, 1); consume_s(1, 1); END_OK } DIES }
proctype RM(byte me) { LOCALS; byte cnt;
  { W(ENDED(1) && ENDED(2), skip); GET_MUTEX; teardown(0); teardown(1); PUT_MUTEX; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 1; cons[1] = 2; NOBODY(4); run P(1); run C(2); run RM(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==16
/* consumer 3 only acts when it is "woken" (cap 1, one doorbell: consumer 2 got it); producer waits for room for good.
 * If 2 dies between claim and head advance, recovery must unblock the producer. */
proctype P(byte me) { LOCALS; byte cnt;
  { cnt = 0;
    do
    :: cnt < 2 -> alloc(ref);
       if
       :: ok -> if :: W(pt[0] - head[0] < CAP, ok = 0); push(0,ref); cnt++
                   /* room will never come: the consumer is gone and the oldest entry is still there to be taken */
                   :: W((recov[2]||fin[2]) && pt[0] - head[0] == CAP && tok[cref[IX(0,head[0])]] == LV(0,head[0]), cnt = 2); release(ref)
                fi
       :: else -> cnt = 2
       fi
    :: else -> break
    od; cnt = 0; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt;
  { if :: W(ctag[0] == 0, skip); pop_s(0,ref); if :: ok -> release(ref) :: else -> skip fi          /* woken */
       :: W(ENDED(1) && ctag[0] != 0, skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(3); NOBODY(4); run P(1); run C(2); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==17
/* 1 fans out to A (X lane) twice-cloned; 2 pops A, clones, forwards the clone into B (shared lane, drops oldest), then tries make_mut on what it kept; 3 pops B, tries make_mut */
proctype P(byte me) { LOCALS; byte cnt;
  { cnt = 0; do :: cnt < NMSG -> TRY_ALLOC(ref); if :: ok -> WAIT_ROOM(0); if :: ok -> push(0,ref) :: else -> release(ref) fi :: else -> skip fi; cnt++ :: else -> break od; cnt = 0; END_OK } DIES }
proctype M(byte me) { LOCALS; byte cnt;
  { cnt = 0;
    do
    :: cnt < NPOP -> pop_x(0,ref);
       if
       :: ok -> clone(ref,ref2);
                if :: ok -> do :: is_full(1); if :: ok -> drop_oldest(1) :: else -> break fi od; push(1,ref2) :: else -> skip fi;
                unique(ref); if :: ok -> atomic { G g_mut(ref) }; atomic { G g_unmut(ref) } :: else -> skip fi;
                release(ref); cnt++
       :: else -> if :: cnt = cnt+0 :: break fi
       fi
    :: else -> break
    od; cnt = 0; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt;
  { cnt = 0;
    do
    :: cnt < NPOP -> pop_s(1,ref);
       if
       :: ok -> unique(ref); if :: ok -> atomic { G g_mut(ref) }; atomic { G g_unmut(ref) } :: else -> skip fi; release(ref); cnt++
       :: else -> if :: cnt = cnt+0 :: break fi
       fi
    :: else -> break
    od; cnt = 0; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 2; cons[1] = 3; NOBODY(4); run P(1); run M(2); run C(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==18
bool t2done;
proctype P(byte me) { LOCALS; byte cnt; { produce_drop(0, NMSG); END_OK } DIES }
proctype Ca(byte me) { LOCALS; byte cnt; { consume_s(0, NPOP); W(t2done, skip); END_OK } DIES }
proctype Cb(byte me) { LOCALS; byte cnt; { consume_s(0, NPOP); atomic { G t2done = 1 } } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(3); NOBODY(4); run P(1); run Ca(2); run Cb(2); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==19
proctype P(byte me) { LOCALS; byte cnt; { produce_drop(0, NMSG); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { consume_s(0, NPOP); END_OK } DIES }
proctype RP(byte me) { LOCALS; byte cnt;
  { if :: GETP(0); attach_prod(0); PUT_MUTEX; produce_drop(0, NMSG) :: W(fin[1], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(4); run P(1); run C(2); run RP(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==20
proctype A(byte me) { LOCALS; byte cnt, hop;
  { cnt = 0;
    do
    :: cnt < NMSG ->
       TRY_ALLOC(ref);
       if
       :: ok ->
          hop = 0;
          do
          :: hop < HOPS ->
             unique(ref);
             if :: ok -> clone_u(ref,ref2) :: else -> clone(ref,ref2) fi;
             if :: ok -> release(ref); ref = ref2; ref2 = 0 :: else -> skip fi;
             hop++
          :: else -> break
          od; hop = 0;
          unique(ref); if :: ok -> atomic { G g_mut(ref) }; atomic { G g_unmut(ref) } :: else -> skip fi;
          release(ref)
       :: else -> skip
       fi; cnt++
    :: else -> break
    od; cnt = 0; END_OK } DIES }
init { atomic { NOBODY(3); NOBODY(4); run A(1); run A(2); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==22
proctype P(byte me) { LOCALS; byte cnt; { produce_wait(0, NMSG); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { consume_x(0, 1); W(MUTEXFREE, mutex = me); atomic { G cons[0] = 0 }; PUT_MUTEX; END_OK } DIES }
proctype C2(byte me) { LOCALS; byte cnt; { GETC(0); attach_cons(0); PUT_MUTEX; consume_x(0, NPOP); END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(4); run P(1); run C(2); run C2(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==23
#ifdef SLANES
#define PP_POP(l,rf) pop_s(l,rf)
#else
#define PP_POP(l,rf) pop_x(l,rf)
#endif
inline pingpong(lin, lout, n) {
  cnt = 0;
  do
  :: cnt < n ->
     PP_POP(lin,ref);
     if
     :: ok -> if :: cnt < n-1 || me == 2 -> is_full(lout); if :: !ok -> push(lout,ref) :: else -> release(ref) fi :: else -> release(ref) fi; cnt++
     :: else -> if :: cnt = cnt+0 :: break fi
     fi
  :: else -> break
  od; cnt = 0
}
proctype A(byte me) { LOCALS; byte cnt; { TRY_ALLOC(ref); if :: ok -> push(0,ref) :: else -> skip fi; pingpong(1,0,NPOP); END_OK } DIES }
proctype B(byte me) { LOCALS; byte cnt; { pingpong(0,1,NPOP); END_OK } DIES }
/* restarts process 2's role */
proctype RB(byte me) { LOCALS; byte cnt; { if :: GETCP(0,1); attach_cons(0); attach_prod(1); PUT_MUTEX; pingpong(0,1,1) :: W(fin[2], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 2; cons[1] = 1; NOBODY(4); run A(1); run B(2); run RB(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#else
#include "ext.pml"
#endif
