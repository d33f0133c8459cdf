/* ext.pml - configurations of the four extensions (included by run.pml) */
#ifdef SLEEP
/* wait for anything from lane l: res = SOMETHING, ENDOFSTREAM or PEERDIED; or after having slept: NOTHING */
inline sleep_look(l) {
  ANNOUNCE; look(l);
#ifdef PATIENT
  if :: (res == PEERDIED) -> res = NOTHING :: else -> skip fi;
#endif
  if :: (res == NOTHING) -> futex_wait() :: else -> skip fi;
  AWAKE
}
#endif
#ifdef SLEEP
#define ROOM(l) wait_room_sleep(l)
#else
#define ROOM(l) WAIT_ROOM(l)
#endif
#ifdef SAFELEAVE
#define LEAVE_PROD(l) W(MUTEXFREE, kills = kills+8); leave_prod(l); atomic { kills = kills-8 }
#define LEAVE_CONS(l) W(MUTEXFREE, kills = kills+8); leave_cons(l); atomic { kills = kills-8 }
#else
#define LEAVE_PROD(l) W(MUTEXFREE, mutex = me); leave_prod(l); PUT_MUTEX
#define LEAVE_CONS(l) W(MUTEXFREE, mutex = me); leave_cons(l); PUT_MUTEX
#endif

/* send up to n, stopping at will */
inline send(l, n) {
  cnt = 0;
  do
  :: cnt < n -> TRY_ALLOC(ref);
     if :: ok -> ROOM(l);
                 if :: ok -> push(l,ref); cnt++ :: else -> release(ref); cnt = n fi
        :: else -> cnt = n
     fi
  :: break
  od; cnt = 0; ok = 0
}

#if CFG==31
proctype P(byte me; byte ln) { LOCALS; byte cnt;
  { send(ln, NMSG); if :: end_stream(ln) :: skip fi; LEAVE_PROD(ln); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; bool o0 = 1, o1 = 1;
  { do
    :: (!o0 && !o1) -> break
    :: else ->
       cnt = 0;
       if :: o0 -> pop_x(0,ref); if :: ok -> release(ref); cnt = 1 :: else -> skip fi :: else -> skip fi;
       if :: o1 -> pop_x(1,ref); if :: ok -> release(ref); cnt = 1 :: else -> skip fi :: else -> skip fi;
       if
       :: cnt == 0 ->
          ANNOUNCE;
          if :: o0 -> look(0); if :: res == NOTHING -> skip :: else -> cnt = 1; if :: res >= ENDOFSTREAM -> o0 = 0 :: else -> skip fi fi :: else -> skip fi;
#ifndef BUG_ONELANE
          if :: o1 -> look(1); if :: res == NOTHING -> skip :: else -> cnt = 1; if :: res >= ENDOFSTREAM -> o1 = 0 :: else -> skip fi fi :: else -> skip fi;
#endif
          if :: cnt == 0 -> futex_wait() :: else -> skip fi;
          AWAKE; res = 0
       :: else -> skip
       fi
    od;
    W(MUTEXFREE, mutex = me); leave_cons(0); leave_cons(1); PUT_MUTEX; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 3; cons[1] = 2; NOBODY(4); run P(1,0); run P(3,1); run C(2); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==32 || CFG==34
#if CFG==32
#define POP(l,rf) pop_s(l,rf)
#else
#define POP(l,rf) pop_x(l,rf)
#endif
proctype P(byte me) { LOCALS; byte cnt;
  { send(0, NMSG); if :: end_stream(0) :: skip fi; LEAVE_PROD(0); END_OK } DIES }
/* -DSAFELEAVE: cannot be killed while it leaves (to tell two flaws apart) */
proctype C(byte me) { LOCALS; byte cnt;
  { do
    :: POP(0,ref);
       if
       :: ok -> release(ref); if :: skip
#ifndef STAY
                          :: break                                  /* may leave early */
#endif
                       fi
       :: else -> sleep_look(0); if :: res >= ENDOFSTREAM -> break :: else -> skip fi; res = 0
       fi
    od; res = 0; LEAVE_CONS(0); END_OK } DIES }
#if CFG==32
init { atomic { prod[0] = 1; cons[0] = 2; cons2[0] = 3; NOBODY(4); run P(1); run C(2); run C(3); run Recoverer(5); run Recoverer(6); run Auditor() } }
#else
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(3); NOBODY(4); run P(1); run C(2); run Recoverer(5); run Recoverer(6); run Auditor() } }
#endif

#elif CFG==33
/* everybody waits for the restarted other end; the restarted ones (3, 4) are never killed and always end the stream */
inline recv_all(l) {
  do
  :: pop_x(l,ref);
     if
     :: ok -> release(ref)
     :: else -> sleep_look(l); if :: res == ENDOFSTREAM -> break :: else -> skip fi; res = 0
     fi
  od; res = 0
}
proctype P(byte me) { LOCALS; byte cnt; { send(0, NMSG); end_stream(0); LEAVE_PROD(0); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { recv_all(0); LEAVE_CONS(0); END_OK } DIES }
proctype RC(byte me) { LOCALS; byte cnt; { if :: GETC(0); attach_cons(0); PUT_MUTEX; recv_all(0); LEAVE_CONS(0) :: W(fin[2], skip) fi; END_OK } DIES }
proctype RP(byte me) { LOCALS; byte cnt; { if :: GETP(0); attach_prod(0); PUT_MUTEX; send(0,1); end_stream(0); LEAVE_PROD(0) :: W(fin[1], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; run P(1); run C(2); run RC(3); run RP(4); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==41
/* 2 takes up to two ahead, finishes in order, may give back and leave; 3 takes over */
inline work(l) {
  v = 0;                                     /* v = number taken and not finished */
  do
  :: v < 2 -> if :: v == 0 -> take(l,ref) :: else -> take(l,ref2) fi;
              if :: ok -> v++ :: else -> if :: v == 0 -> break :: else -> skip fi fi; ok = 0; red = 0
  :: v > 0 -> finish(l,ref); ref = ref2; ref2 = 0; v--
  :: v > 0 -> if :: v == 2 -> untake(l,ref2) :: else -> skip fi; untake(l,ref); v = 0; break
  od; v = 0; ok = 0; red = 0
}
proctype P(byte me) { LOCALS; byte cnt; { send(0, NMSG); LEAVE_PROD(0); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { nx = 0; work(0); LEAVE_CONS(0); END_OK } DIES }
proctype RC(byte me) { LOCALS; byte cnt; { if :: GETC(0); attach_cons(0); PUT_MUTEX; work(0); LEAVE_CONS(0) :: W(fin[2], skip) fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; run P(1); run C(2); run RC(3);
#ifdef RC2
  run RC(4);
#else
  NOBODY(4);
#endif
  run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==42
inline forward_some(n) {
  cnt = 0;
  do
  :: cnt < n -> take(0,ref);
     if
     :: ok ->
#ifdef BUG_FWDTAKEN
        ROOM(1);
        if :: ok -> push(1,ref); finish_head_only(0) :: else -> untake(0,ref); break fi;
#else
        clone(ref,ref2);
        if
        :: ok -> ROOM(1);
                 if :: ok -> 
#ifdef BUG_FWDUNMARKED
                             red = 0;
#endif
                             push(1,ref2);
#ifdef BUG_FINFIRST
#endif
                             assert(pubm[8+gmid[SLOT(ref)]]); finish(0,ref)
                    :: else -> release(ref2); untake(0,ref); break fi
        :: else -> untake(0,ref); break
        fi;
#endif
        cnt++
     :: else -> break
     fi
  :: else -> break
  od; cnt = 0; ok = 0; red = 0
}
proctype P(byte me) { LOCALS; byte cnt; { send(0, NMSG); LEAVE_PROD(0); END_OK } DIES }
proctype M(byte me) { LOCALS; byte cnt; { nx = 0; forward_some(NMSG); W(MUTEXFREE, mutex = me); leave_cons(0); leave_prod(1); PUT_MUTEX; END_OK } DIES }
proctype RM(byte me) { LOCALS; byte cnt; { if :: GETCP(0,1); attach_cons(0); attach_prod(1); PUT_MUTEX; forward_some(NMSG) :: W(fin[2], skip) fi; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt;
  { nx = 0;
    do
    :: take(1,ref); if :: ok -> finish(1,ref); ok = 0; red = 0 :: else -> if :: skip :: break fi fi
    od; red = 0; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 2; cons[1] = 3; run P(1); run M(2); run C(3); run RM(4); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==51 || CFG==52
#if CFG==52
#define POP(l,rf) pop_s(l,rf)
#else
#define POP(l,rf) pop_x(l,rf)
#endif
inline send_end(l, n) {
#ifdef BUG_ENDEARLY
  TRY_ALLOC(ref); if :: ok -> ROOM(l); if :: ok -> atomic { G end[l] = pt[l]+1; gended[l] = 1 }; push(l,ref) :: else -> release(ref) fi :: else -> skip fi
#else
  send(l, n); if :: end_stream(l) :: skip fi
#endif
}
inline recv_poll(l) {
  do
  :: POP(l,ref);
     if
     :: ok -> release(ref); if :: skip :: cnt == 1 -> break fi
     :: else -> look(l); if :: res >= ENDOFSTREAM -> if :: skip :: break fi :: else -> skip fi; res = 0       /* leave, or go on polling */
     fi
  od; res = 0
}
proctype P(byte me) { LOCALS; byte cnt; { send_end(0, NMSG); LEAVE_PROD(0); END_OK } DIES }
proctype RP(byte me) { LOCALS; byte cnt; { if :: GETP(0); attach_prod(0); PUT_MUTEX; send_end(0,1); LEAVE_PROD(0) :: W(fin[1], skip) fi; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { recv_poll(0); LEAVE_CONS(0); END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; run P(1); run C(2); run RP(4);
#if CFG==52
  cons2[0] = 3; run C(3);
#else
  NOBODY(3);
#endif
  run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==61
proctype P(byte me) { LOCALS; byte cnt; { send(0, NMSG); END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt;
  { pop_s(0,ref); if :: ok ->
#if NPOP > 1
      pop_s(0,ref2); if :: ok -> release(ref2) :: else -> skip fi;
#endif
      release(ref) :: else -> skip fi; END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; NOBODY(4); run P(1); run C(2); run C(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==62
proctype P(byte me) { LOCALS; byte cnt; { send(0, NMSG); END_OK } DIES }
proctype M(byte me) { LOCALS; byte cnt;
  { cnt = 0;
    do
    :: cnt < NPOP -> pop_x(0,ref);
       if :: ok -> if :: WAIT_ROOM(1) :: ok = 0 fi; if :: ok -> push(1,ref) :: else -> release(ref) fi; cnt++
          :: else -> if :: cnt = cnt+0 :: break fi fi
    :: else -> break
    od; cnt = 0; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt; { consume_x(1, NPOP); END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 2; cons[1] = 3; NOBODY(4); run P(1); run M(2); run C(3); run Recoverer(5); run Recoverer(6); run Auditor() } }

#elif CFG==71
/* a block in the middle: sleeps for input, takes, forwards a clone (sleeping for room), finishes; ends its output when its input has ended */
inline middle() {
  do
  :: take(0,ref);
     if
     :: ok -> clone(ref,ref2);
              if
              :: ok -> ROOM(1);
                       if :: ok -> push(1,ref2); assert(pubm[8+gmid[SLOT(ref)]]); finish(0,ref)
                          :: else -> release(ref2); untake(0,ref); break fi
              :: else -> untake(0,ref); break
              fi; ok = 0; red = 0
     :: else -> sleep_look(0);
                if :: res == ENDOFSTREAM -> end_stream(1); break :: res == PEERDIED -> break :: else -> skip fi; res = 0
     fi
  od; res = 0; ok = 0; red = 0;
  W(MUTEXFREE, mutex = me); leave_cons(0); leave_prod(1); PUT_MUTEX
}
proctype P(byte me) { LOCALS; byte cnt; { send(0, NMSG); if :: end_stream(0) :: skip fi; LEAVE_PROD(0); END_OK } DIES }
proctype M(byte me) { LOCALS; byte cnt; { nx = 0; middle(); END_OK } DIES }
proctype RM(byte me) { LOCALS; byte cnt; { if :: GETCP(0,1); attach_cons(0); attach_prod(1); PUT_MUTEX; middle() :: W(fin[2], skip) fi; END_OK } DIES }
proctype C(byte me) { LOCALS; byte cnt;
  { nx = 0;
    do
    :: take(1,ref);
       if :: ok -> finish(1,ref); ok = 0; red = 0
          :: else -> sleep_look(1); if :: res >= ENDOFSTREAM -> break :: else -> skip fi; res = 0 fi
    od; res = 0; red = 0; LEAVE_CONS(1); END_OK } DIES }
init { atomic { prod[0] = 1; cons[0] = 2; prod[1] = 2; cons[1] = 3; run P(1); run M(2); run C(3);
#ifdef NORM
  NOBODY(4);
#else
  run RM(4);
#endif
  run Recoverer(5); run Recoverer(6); run Auditor() } }
#endif
