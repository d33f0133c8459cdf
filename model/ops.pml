/* ops.pml - the protocol of references.md, one shared-memory access per atomic step.
 * token word  {owner | lane | pos}:  0 = free, owner 1..6 = process, owner 7 = IN_LANE.
 * cell word   {tag = pos | ref}, self-validating: position ps is published <=> ctag[ps % CAP] == ps.           */
#define INL 7
#define TV(o,l,ps) (((o)<<8)|((l)<<5)|(ps))
#define OWNR(w) ((w)>>8)
#define LANEOF(w) (((w)>>5)&7)
#define POSOF(w) ((w)&31)
#define LV(l,ps) TV(INL,(l)+1,ps)
#define IX(l,ps) ((l)*CAP+((ps)%CAP))

#if CFG > 30 && !defined(FINE)
#define COARSE               /* recovery's reads of things that stand still (see README) are one step */
#endif
short tok[NREF]; byte clones[NS];
byte ctag[NL*CAP] = 255; byte cref[NL*CAP];
byte head[NL];
byte pt[NL];                 /* private memory of the lane's producer process: next position to publish */
byte tl[NL];                 /* private memory of the recoverer (valid while it holds the mutex) */
byte pst[7];                 /* process slot: 0 = LIVE, FREE or used again by somebody else; 1+stage = DEAD */
#ifdef REDEL
byte redel[NL];              /* lane.redelivered_until */
bit  cflag[NL*CAP];          /* one bit of the cell word: "this message may have been sent before" */
#endif
#ifdef EOS
byte end[NL];                /* lane.end: final position + 1, 0 = open */
#endif
#ifdef LOST
byte lost[NL], lost_after[NL];
#endif
#ifdef SLEEP
/* one bell and one asleep flag per waiting party (= worker here); kq = the party sits in the kernel's futex queue */
bool asleep[7]; bool kq[7];
#ifdef REALBELL
byte bell[7];                /* a real counter: needed only to see what a lost increment does */
#define BELL_LOAD      e = bell[me]
#define BELL_SAME      (bell[me] == e)
#define BELL_ADD(q)    bell[q] = (bell[q]+1)
#else
bool rung[7];                /* abstraction of "bell has been rung since its owner read it": bell == e <=> !rung */
#define BELL_LOAD      rung[me] = 0
#define BELL_SAME      (!rung[me])
#define BELL_ADD(q)    rung[q] = 1
#endif
#endif

inline sel_slot() { if :: s = 0 :: (NS > 1) -> s = NS-1 fi }

/* ---- alloc from a pool with one allocating process: no RMW ---- */
inline alloc_x(rf) {
  atomic { G sel_slot(); v = clones[s]; r = 0; ok = 1 };
  do
  :: atomic { G if :: tok[s*NT+r] != 0 -> ok = 0 :: else -> skip fi; r++;
              if :: (!ok || r == NT) -> break :: else -> skip fi }
  od;
#ifndef BUG_NOCLONECTR
  atomic { G if :: (ok && clones[s] != v) -> ok = 0 :: else -> skip fi };
#endif
  atomic { G if :: ok -> tok[s*NT] = TV(me,0,0); rf = s*NT; g_alloc(s*NT) :: else -> skip fi; s = 0; r = 0; v = 0 }
}
/* ---- alloc from a pool shared by several allocating processes: one CAS ---- */
inline alloc_s(rf) {
  atomic { G sel_slot(); if :: tok[s*NT] == 0 -> tok[s*NT] = TV(me,0,0); ok = 1 :: else -> ok = 0 fi };   /* CAS */
  if
  :: ok ->
     atomic { G v = clones[s]; r = 1 };
     do
     :: atomic { G if :: (r < NT && tok[s*NT+(r%NT)] != 0) -> ok = 0 :: else -> skip fi; r++;
                 if :: (!ok || r >= NT) -> break :: else -> skip fi }
     od;
#ifndef BUG_NOCLONECTR
     atomic { G if :: (ok && clones[s] != v) -> ok = 0 :: else -> skip fi;
              if :: ok -> rf = s*NT; g_alloc(s*NT) :: else -> skip fi };
#else
     atomic { G if :: ok -> rf = s*NT; g_alloc(s*NT) :: else -> skip fi };
#endif
     atomic { G if :: !ok -> tok[s*NT] = 0 :: else -> skip fi; s = 0; r = 0; v = 0 }          /* undo */
  :: else -> skip
  fi
}
/* ---- for the extensions, where allocation is not the question: in one step ---- */
#define SLOTFREE(q) (tok[(q)*NT]==0 && (NT<2 || tok[(q)*NT+(1%NT)]==0) && (NT<3 || tok[(q)*NT+(2%NT)]==0))
inline alloc_1(rf) {
  atomic { G
    if
#if CFG==31
    :: SLOTFREE((me-1)/2) -> s = (me-1)/2; ok = 1            /* each producer has its own pool of one slot */
    :: else -> ok = 0
#else
    :: SLOTFREE(0) -> s = 0; ok = 1
    :: !SLOTFREE(0) && NS > 1 && SLOTFREE(NS-1) -> s = NS-1; ok = 1
    :: else -> ok = 0
#endif
    fi;
    if :: ok -> tok[s*NT] = TV(me,0,0); rf = s*NT; g_alloc(s*NT) :: else -> skip fi; s = 0 }
}
#if CFG > 30
#define alloc(rf) alloc_1(rf)
#elif defined(SHAREDPOOL)
#define alloc(rf) alloc_s(rf)
#else
#define alloc(rf) alloc_x(rf)
#endif

/* ---- clone to a second token (general: other holders may clone at the same time) ---- */
#ifdef BUG_TOK0
#define R0 0        /* mutant: clones may take token 0 although the pool has several allocators */
#else
#define R0 1
#endif
inline clone(rf, rf2) {
#ifdef BUG_CTRFIRST
  atomic { G s = SLOT(rf); clones[s]++ };
#endif
  atomic { G s = SLOT(rf); r = R0; ok = 0 };
  do
  :: atomic { G if :: tok[s*NT+(r%NT)] == 0 && r < NT -> tok[s*NT+r] = TV(me,0,0); ok = 1 :: else -> r++ fi;   /* c1 CAS */
              if :: (ok || r >= NT) -> break :: else -> skip fi }
  od;
#ifdef BUG_CTRFIRST
  atomic { G if :: ok -> rf2 = s*NT+r; g_clone(s*NT+r) :: else -> skip fi; s = 0; r = 0 }
#else
  atomic { G if :: ok -> clones[s]++; rf2 = s*NT+r; g_clone(s*NT+r) :: else -> skip fi; s = 0; r = 0 }             /* c2 fetch_add */
#endif
}
/* ---- clone by the only holder: plain stores ---- */
inline clone_u(rf, rf2) {
  atomic { G s = SLOT(rf); r = R0; ok = 0 };
  do
  :: atomic { G if :: (r < NT && tok[s*NT+(r%NT)] == 0) -> ok = 1 :: else -> r++ fi;
              if :: (ok || r >= NT) -> break :: else -> skip fi }
  od;
  if
  :: ok ->
     atomic { G tok[s*NT+r] = TV(me,0,0) };
     atomic { G v = clones[s] };
     atomic { G clones[s] = v+1; rf2 = s*NT+r; g_clone(s*NT+r); s = 0; r = 0; v = 0 }
  :: else -> skip
  fi
}
#ifdef BUG_NOPROV
#define CLAIM(l,h) TV(me,0,0)
#define CLAIMED_BY(w,d,l,ps) (OWNR(w) == (d))
#else
#define CLAIM(l,h) TV(me,(l)+1,h)
#define CLAIMED_BY(w,d,l,ps) ((w) == TV(d,(l)+1,ps))
#endif
inline release(rf) { atomic { G g_release(rf); tok[rf] = 0; rf = 0 } }

/* ---- unique? (make_mut) ---- */
inline unique(rf) {
  atomic { G s = SLOT(rf); v = clones[s]; r = 0; ok = 1 };
  do
  :: atomic { G if :: (s*NT+r != rf && tok[s*NT+r] != 0) -> ok = 0 :: else -> skip fi; r++;
              if :: (!ok || r == NT) -> break :: else -> skip fi }
  od;
#ifndef BUG_NOCLONECTR
  atomic { G if :: (ok && clones[s] != v) -> ok = 0 :: else -> skip fi; s = 0; r = 0; v = 0 }
#else
  atomic { G s = 0; r = 0; v = 0 }
#endif
}

/* ---- push; caller has checked that the lane is not full (p0) ---- */
inline is_full(l) { atomic { G ok = (pt[l] - head[l] >= CAP) } }         /* load head */
inline push(l, rf) {
#ifdef BUG_PUBFIRST
  atomic { G ctag[IX(l,pt[l])] = pt[l]; cref[IX(l,pt[l])] = rf; g_publish(l,pt[l],rf) };
  atomic { G g_push1(rf,l,pt[l]); tok[rf] = LV(l,pt[l]); pt[l]++; rf = 0 };
#else
  atomic { G g_push1(rf,l,pt[l]);
#ifdef BUG_NOPOS
           tok[rf] = LV(l,0) };
#else
           tok[rf] = LV(l,pt[l]) };                                                       /* p1 */
#endif
  atomic { G g_publish(l,pt[l],rf); ctag[IX(l,pt[l])] = pt[l]; cref[IX(l,pt[l])] = rf; GR(cflag[IX(l,pt[l])] = red;) pt[l]++; rf = 0 };   /* p2: publish */
#endif
#ifdef SLEEP
  ring_cons(l)                                                                            /* p3 */
#endif
}
/* batch of two into one lane: both tokens first, then both cells */
inline push2(l, rfa, rfb) {
  atomic { G g_push1(rfa,l,pt[l]); tok[rfa] = LV(l,pt[l]) };
  atomic { G g_push1(rfb,l,pt[l]+1); tok[rfb] = LV(l,pt[l]+1) };
  atomic { G g_publish(l,pt[l],rfa); ctag[IX(l,pt[l])] = pt[l]; cref[IX(l,pt[l])] = rfa; pt[l]++; rfa = 0 };
  atomic { G g_publish(l,pt[l],rfb); ctag[IX(l,pt[l])] = pt[l]; cref[IX(l,pt[l])] = rfb; pt[l]++; rfb = 0 };
}

/* ---- pop, exclusive lane: no RMW ---- */
inline pop_x(l, rf) {
  atomic { G h = head[l]; if :: ctag[IX(l,h)] == h -> rf = cref[IX(l,h)]; ok = 1 :: else -> ok = 0 fi };   /* own word + cell */
  if
  :: ok ->
#ifdef BUG_HEADFIRST
     atomic { G head[l] = h+1 };
     atomic { G assert(tok[rf] == LV(l,h)); tok[rf] = CLAIM(l,h); g_claim(rf,l,h); g_return(rf,l); h = 0 }
#else
     atomic { G assert(tok[rf] == LV(l,h)); tok[rf] = CLAIM(l,h); g_claim(rf,l,h) };   /* x2 */
     atomic { G head[l] = h+1; g_return(rf,l); h = 0 }                                   /* x3 */
#endif
#ifdef SLEEP
     ring_prod(l); ok = 1
#endif
  :: else -> h = 0
  fi
}
/* batch of two */
inline pop2_x(l, rfa, rfb) {
  atomic { G h = head[l]; if :: (ctag[IX(l,h)] == h) -> rfa = cref[IX(l,h)]; ok = 1 :: else -> ok = 0 fi };
  if
  :: ok ->
     atomic { G if :: (ctag[IX(l,h+1)] == h+1) -> rfb = cref[IX(l,h+1)] :: else -> ok = 0 fi };
     if
     :: ok ->
       atomic { G assert(tok[rfa] == LV(l,h)); tok[rfa] = CLAIM(l,h); g_claim(rfa,l,h) };
       atomic { G assert(tok[rfb] == LV(l,h+1)); tok[rfb] = CLAIM(l,h+1); g_claim(rfb,l,h+1) };
       atomic { G head[l] = h+2; g_return(rfa,l); g_return(rfb,l); h = 0 }
     :: else -> rfa = 0; h = 0
     fi
  :: else -> h = 0
  fi
}
/* ---- at-least-once: peek, work on the block in place, then commit = free the token, advance head ---- */
inline peek_commit_x(l) {
  atomic { G h = head[l]; if :: ctag[IX(l,h)] == h -> ref = cref[IX(l,h)]; ok = 1 :: else -> ok = 0 fi };
  if
  :: ok ->
     atomic { G assert(tok[ref] == LV(l,h)); assert(own[ref] == 8+l && gpos[ref] == h && gg[SLOT(ref)] == pgg[l*MAXP+h]) }; /* works on the data */
     atomic { G assert(gg[SLOT(ref)] == pgg[l*MAXP+h]); g_drop(ref,l,h); ret[l*MAXP+h] = 1; tok[ref] = 0 };   /* k1 */
     atomic { G head[l] = h+1; h = 0; ref = 0 }                                                               /* k2 */
  :: else -> h = 0
  fi
}

/* ---- pop, shared lane (competing consumers and/or a producer that drops the oldest) ---- */
inline pop_s(l, rf) {
  do
  :: atomic { G h = head[l] };
     atomic { G p = ctag[IX(l,h)]; rf = cref[IX(l,h)] };                 /* one 64-bit load */
     if
     :: p != h -> atomic { G if :: head[l] == h -> ok = 0; rf = 0; h = 0; p = 0; break :: else -> skip fi }
     :: else ->
#ifdef BUG_NOPOS
        atomic { G if :: tok[rf] == LV(l,0) -> tok[rf] = CLAIM(l,h); g_claim(rf,l,h); ok = 1 :: else -> ok = 0 fi };
#else
        atomic { G if :: tok[rf] == LV(l,h) -> tok[rf] = CLAIM(l,h); g_claim(rf,l,h); ok = 1 :: else -> ok = 0 fi };  /* q2 CAS */
#endif
        atomic { G if :: head[l] == h -> head[l] = h+1 :: else -> skip fi;                                      /* q3 CAS, also helps */
                 if :: ok -> g_return(rf,l); h = 0; p = 0; break :: else -> skip fi }
#ifdef SLEEP
        /* q2 lost: whoever won it rings, or dies and recovery rings */
#endif
     fi
  od;
#ifdef SLEEP
  if :: ok -> ring_prod(l); ok = 1 :: else -> skip fi
#endif
}
/* ---- the producer of a full shared lane drops the oldest ---- */
inline drop_oldest(l) {
  atomic { G h = head[l] };
  atomic { G p = ctag[IX(l,h)]; x = cref[IX(l,h)] };
#ifdef BUG_DROPNOTAG
  p = h;
#endif
  if
  :: p == h ->
     atomic { G if :: tok[x] == LV(l,h) -> tok[x] = 0; g_drop(x,l,h) :: else -> skip fi };     /* o1 CAS */
     atomic { G if :: head[l] == h -> head[l] = h+1 :: else -> skip fi; h = 0; p = 0; x = 0 }  /* o2 CAS */
  :: else -> atomic { G h = 0; p = 0; x = 0 }
  fi
}


/* ================================================= sleepers ================================================= */
#ifdef SLEEP
inline ring(q) {
#ifdef BUG_PLAINBELL
  atomic { G v = bell[q] };                                        /* mutant: load, add, store */
  atomic { G bell[q] = v+1; v = 0 };
#else
  atomic { G BELL_ADD(q) };                                        /* bell.fetch_add(1) */
#endif
  atomic { G kq[q] = 0 }                                           /* futex_wake(bell, all): a call of its own */
}
inline ring_if_asleep(field) {
#ifdef FINE
  atomic { G y = field };                                          /* which party; may be none */
  atomic { G ok = (y != 0 && asleep[y]) };                         /* (fence) load flag */
#else
  atomic { G y = field; ok = (y != 0 && asleep[y]) };              /* both loads in one step */
#endif
  if :: ok -> ring(y) :: else -> skip fi;
  y = 0
}
inline ring_cons(l) {
  ring_if_asleep(cons[l]);
#ifdef TWOCONS
#ifdef RINGONE
  if :: !ok -> ring_if_asleep(cons2[l]) :: else -> skip fi;        /* mutant: only the first that sleeps */
#else
  ring_if_asleep(cons2[l]);
#endif
#endif
  ok = 1
}
inline ring_prod(l) { ring_if_asleep(prod[l]) }
#if defined(BUG_SLEEPLATE)     /* mutant: flag after the look */
#define ANNOUNCE atomic { G BELL_LOAD }
#define LATE     atomic { G asleep[me] = 1 };
#elif defined(BUG_BELLLATE)    /* mutant: bell read after the look */
#define ANNOUNCE atomic { G asleep[me] = 1 }
#define LATE     atomic { G BELL_LOAD };
#else
#define ANNOUNCE atomic { G BELL_LOAD }; atomic { G asleep[me] = 1 }       /* e = bell; asleep = 1; fence */
#define LATE
#endif
inline futex_wait() {
  LATE
  atomic { G if :: BELL_SAME -> kq[me] = 1 :: else -> skip fi };   /* the kernel compares and queues in one step */
  W(!kq[me], skip)
}
#define AWAKE    atomic { G asleep[me] = 0; Z_SLEEP }
#endif

/* ============================ what can the consumer expect from lane l?  res = ... ============================ */
#define NOTHING 0
#define SOMETHING 1
#define ENDOFSTREAM 2
#define PEERDIED 3
#if defined(SLEEP) || defined(EOS)
/* n1, n2: is the other end gone?  Field first, then the slot of that process. */
inline gone(fld, gl) {
  atomic { G f = fld; g = (f == 0); GE(gsn = npub[gl];) };                                 /* n1 */
#ifdef FIELDONLY              /* variant: the field alone is enough, because R5b rings after R5a has cleared it */
  f = 0
#else
  if :: !g -> atomic { G if :: pst[f] != 0 -> g = 1 :: else -> skip fi; f = 0; GE(gsn = npub[gl];) }       /* n2 */
     :: else -> skip
  fi
#endif
}
#ifdef REDEL
#define MYPOS(l) nx            /* the next one to take */
#else
#define MYPOS(l) head[l]
#endif
inline look_cell(l) {                                                                       /* n3 */
  if
  :: !SL(l) -> atomic { G h = MYPOS(l); if :: ctag[IX(l,h)] == h -> res = SOMETHING :: else -> res = NOTHING fi }
  :: else   -> atomic { G h = head[l] };
               atomic { G if :: ctag[IX(l,h)] == h -> res = SOMETHING :: else -> res = NOTHING fi };
               if :: res == NOTHING -> atomic { G if :: head[l] != h -> res = SOMETHING :: else -> skip fi } :: else -> skip fi
  fi
}
inline look(l) {
#ifdef BUG_LIVELAST                                    /* mutant: no second look at the cell after the peer was found gone */
  look_cell(l); gone(prod[l],l);
#else
#ifdef BUG_ENDFIRST                                    /* as first written down: end is read before the peer, only the cell is read again */
  atomic { G h = MYPOS(l); v = end[l] };
#endif
  gone(prod[l],l);
  look_cell(l);
#endif
#ifdef EOS
  if
  :: res == NOTHING ->
#ifdef BUG_ENDFIRST
     atomic { G
#else
     atomic { G v = end[l];                                                                 /* n4 */
#endif
       if :: v == h+1 -> res = ENDOFSTREAM; assert(npub[l] == ntaken[l]); assert(gended[l]); gendseen[l] = 1
          :: v != h+1 && v != 0 -> res = SOMETHING                                          /* published meanwhile: look again */
          :: v == 0 && g -> res = PEERDIED; assert(ntaken[l] >= gsn); assert(!gended[l])
          :: else -> skip
       fi; v = 0 }
  :: else -> skip
  fi;
#else
  if :: (res == NOTHING && g) -> res = PEERDIED :: else -> skip fi;
#endif
  atomic { h = 0; g = 0; gsn = 0; v = 0 }
}
#endif

#ifdef SLEEP
/* the producer waits for room: ok = room, !ok = nobody will make room */
inline wait_room_sleep(l) {
  do
  :: is_full(l); if :: !ok -> ok = 1; break :: else -> skip fi;
     ANNOUNCE;
     gone(cons[l],l);
#ifdef TWOCONS
     if :: g -> gone(cons2[l],l) :: else -> skip fi;
#endif
#ifdef PATIENT
     g = 0;                                             /* wants to wait for a restarted consumer */
#endif
     is_full(l);
     if
     :: !ok       -> AWAKE; ok = 1; g = 0; break
     :: (ok && g) -> AWAKE; ok = 0; g = 0; break
     :: else      -> futex_wait(); AWAKE
     fi
  od
}
#endif

#ifdef EOS
inline end_stream(l) {
  atomic { G end[l] = pt[l]+1; gended[l] = 1 }          /* after the last p2 */
#ifdef SLEEP
  ; ring_cons(l)
#endif
}
#endif

/* ---- graceful detach (registry mutex held): field, then ring the other end ---- */
inline leave_prod(l) {
  atomic { G prod[l] = 0 }
#ifdef SLEEP
  ; ring_cons(l)
#endif
}
inline leave_cons(l) {
  atomic { G if :: cons[l] == me -> cons[l] = 0
#ifdef TWOCONS
                :: cons2[l] == me -> cons2[l] = 0
#endif
             fi }
#ifdef SLEEP
  ; ring_prod(l)
#endif
}

/* ===================== exclusive lane with redelivery: take ahead, finish in order ===================== */
#ifdef REDEL
/* nx = next position to take, private; starts at head when the consumer attaches.  ok, rf, red = marked */
inline take(l, rf) {
  atomic { G if :: ctag[IX(l,nx)] == nx -> rf = cref[IX(l,nx)]; red = cflag[IX(l,nx)]; ok = 1 :: else -> ok = 0 fi };     /* x1 */
  if
  :: ok ->
     atomic { G assert(tok[rf] == LV(l,nx)); if :: nx < redel[l] -> red = 1 :: else -> skip fi };          /* x1', load redelivered_until */
     atomic { G tok[rf] = CLAIM(l,nx); g_claim(rf,l,nx); nx++ };                                           /* x2 */
     atomic { G assert(red || !dl[l*8+gmid[SLOT(rf)]]); dl[l*8+gmid[SLOT(rf)]] = 1 }                       /* returns to the caller */
  :: else -> skip
  fi
}
/* finish the oldest taken entry */
inline finish(l, rf) {
  atomic { G h = head[l]; assert(gpos[rf] == h) };                                                         /* own word */
  atomic { G g_return(rf,l); g_release(rf); tok[rf] = 0; rf = 0 };                                         /* k1 */
  atomic { G head[l] = h+1; h = 0 }                                                                        /* k2 */
#ifdef SLEEP
  ; ring_prod(l)
#endif
}
/* graceful end: give a taken entry back, marked */
inline untake(l, rf) {
  atomic { G p = gpos[rf]; if :: redel[l] < p+1 -> redel[l] = p+1 :: else -> skip fi };
  atomic { G tok[rf] = LV(l,p); g_undo(rf,l,me); rf = 0; p = 0 }
}
/* forwarded the taken token itself, then head: mutant only */
inline finish_head_only(l) { atomic { G h = head[l]; ret[l*MAXP+h] = 1; head[l] = h+1; h = 0 } }
#endif

/* ---- attach (registry mutex held) ---- */
inline attach_cons(l) {
#ifdef SLEEP
  atomic { G asleep[me] = 0 };
#endif
  atomic { G cons[l] = me }
#ifdef REDEL
  ; atomic { G nx = head[l] }
#endif
}
inline attach_prod(l) {
  atomic { G p = head[l] };
  do :: atomic { G if :: ctag[IX(l,p)] == p -> p++ :: else -> break fi } od;
  atomic { G pt[l] = p; p = 0 };
  atomic { G prod[l] = me }
#ifdef EOS
  ; atomic { G end[l] = 0; gended[l] = 0; gendseen[l] = 0 }            /* the stream goes on; after the field */
#endif
}

/* ================================ recovery of d by me (registry mutex held) ================================ */
inline rec_undo(l, d) {       /* R1: exclusive lanes */
  if
#ifdef BUG_UNDO_S
  :: (SL(l)) ->                      /* mutant: 'undo' on a shared lane (at head only) */
     atomic { G p = head[l] };
     atomic { G ok = (ctag[IX(l,p)] == p); x = cref[IX(l,p)] };
     if :: ok -> atomic { G if :: (tok[x] == TV(d,l+1,p)) -> tok[x] = LV(l,p); g_undo(x,l,d) :: else -> skip fi } :: else -> skip fi;
     atomic { G p = 0; x = 0; t = 0; ok = 0 }
#endif
  :: (!SL(l) && cons[l] == d) ->
     atomic { G p = head[l] };
     do
#ifdef COARSE
     :: atomic { G do :: (ctag[IX(l,p)] == p && tok[cref[IX(l,p)]] == LV(l,p)) -> p++ :: else -> break od;
                 if :: (ctag[IX(l,p)] == p) -> x = cref[IX(l,p)]; t = tok[x] :: else -> x = 0; t = 0; break fi };
#else
     :: atomic { G if :: (ctag[IX(l,p)] == p) -> x = cref[IX(l,p)] :: else -> break fi };
        atomic { G t = tok[x] };
#endif
        if
        :: t == LV(l,p) -> p++                           /* still queued */
        :: CLAIMED_BY(t,d,l,p) ->                        /* taken, not finished: mark, then undo */
#if defined(REDEL) && !defined(BUG_MARKLATE) && !defined(BUG_NOMARK)
           atomic { G if :: redel[l] < p+1 -> redel[l] = p+1 :: else -> skip fi };
#endif
           atomic { G tok[x] = LV(l,p); g_undo(x,l,d) };
#ifdef BUG_MARKLATE
           atomic { G if :: redel[l] < p+1 -> redel[l] = p+1 :: else -> skip fi };
#endif
           p++
        :: else ->                                       /* committed (freed) but head not advanced yet */
           atomic { G assert(head[l] == p); head[l] = p+1; p++ }
        fi
     od;
     atomic { G p = 0; x = 0; t = 0 }
  :: else -> skip
  fi
}
inline rec_tail(l, d) {       /* R2 */
  if
  :: (prod[l] == d) ->
#ifdef COARSE
     atomic { G p = head[l]; do :: ctag[IX(l,p)] == p -> p++ :: else -> break od; tl[l] = p; p = 0 }
#else
     atomic { G p = head[l] };
     do :: atomic { G if :: ctag[IX(l,p)] == p -> p++ :: else -> break fi } od;
     atomic { G tl[l] = p; p = 0 }
#endif
  :: else -> skip
  fi
}
#define ORPHAN(w,d) (OWNR(w)==INL && prod[LANEOF(w)-1]==(d) && POSOF(w) >= tl[LANEOF(w)-1])
inline rec_scan(d) {          /* R3 */
  x = 0;
  do
#ifdef COARSE
  :: atomic { G do :: (x < NREF && !(tok[x%NREF] != 0 && (OWNR(tok[x%NREF]) == d || ORPHAN(tok[x%NREF],d)))) -> x++ :: else -> break od;
              if :: x == NREF -> x = 0; break :: else -> t = tok[x] fi };
     atomic { G tok[x] = 0; g_free(x,d);
#if defined(BUG_LOSTATONCE) || defined(BUG_LOSTLATE)
              if :: LANEOF(t) != 0 && OWNR(t) == d -> v++ :: else -> skip fi;      /* mutants: 1 lane */
#endif
              x++; t = 0 }
  od
#else
  :: atomic { G t = tok[x];
#ifdef BUG_NOORPHAN
       if :: (t != 0 && OWNR(t) == d) -> skip :: else -> t = 0; x++ fi;
#else
       if :: (t != 0 && (OWNR(t) == d || ORPHAN(t,d))) -> skip :: else -> t = 0; x++ fi;
#endif
       if :: (x == NREF) -> break :: else -> skip fi };
     if
     :: t != 0 -> atomic { G tok[x] = 0; g_free(x,d);
                    x++; t = 0; if :: (x == NREF) -> break :: else -> skip fi }
     :: else -> skip
     fi
  od;
  x = 0
#endif
}
inline rec_help(l) {          /* R4: shared lanes: move head past entries that somebody claimed */
  if
  :: SL(l) ->
     do
     :: atomic { G h = head[l] };
        atomic { G p = ctag[IX(l,h)]; x = cref[IX(l,h)] };
        if
        :: p != h -> atomic { G if :: head[l] == h -> h = 0; p = 0; x = 0; break :: else -> skip fi }
        :: else ->
           atomic { G t = tok[x] };
           if
           :: t == LV(l,h) -> atomic { G h = 0; p = 0; x = 0; t = 0; break }
           :: else -> atomic { G if :: head[l] == h -> head[l] = h+1 :: else -> skip fi; t = 0 }
           fi
        fi
     od
  :: else -> skip
  fi
}
#ifdef TWOCONS
#define CONS_IS(l,d) (cons[l] == (d) || cons2[l] == (d))
#else
#define CONS_IS(l,d) (cons[l] == (d))
#endif
#ifdef SLEEP
/* mutants and variants: R5 as first written down, ring the lane's other parties, then clear the field */
inline rec_ring_lane(l, d) {
  if :: (prod[l] == d) -> if :: cons[l] != 0 -> ring(cons[l]) :: else -> skip fi;
#ifdef TWOCONS
                          if :: cons2[l] != 0 -> ring(cons2[l]) :: else -> skip fi
#else
                          skip
#endif
     :: (prod[l] != d && CONS_IS(l,d)) -> if :: prod[l] != 0 -> ring(prod[l]) :: else -> skip fi;
#if defined(TWOCONS) && !defined(BUG_NOCOCONS)
                          if :: (cons[l] == d && cons2[l] != 0) -> ring(cons2[l]) :: (cons2[l] == d && cons[l] != 0) -> ring(cons[l]) :: else -> skip fi
#else
                          skip
#endif
     :: else -> skip
  fi
}
#endif
inline rec_detach(l, d) {     /* R5a: fields := none */
#if defined(SLEEP) && defined(R5_LANE)
  rec_ring_lane(l,d);
#endif
#if defined(SLEEP) && defined(BUG_RINGAFTER)
  ok = (prod[l] == d || CONS_IS(l,d));
#endif
  if :: (prod[l] == d) -> atomic { G prod[l] = 0; tl[l] = 0 } :: else -> skip fi;
  if :: (cons[l] == d) -> atomic { G cons[l] = 0 } :: else -> skip fi;
#ifdef TWOCONS
  if :: (cons2[l] == d) -> atomic { G cons2[l] = 0 } :: else -> skip fi;
#endif
#if defined(SLEEP) && defined(BUG_RINGAFTER)
  /* mutant: rings the lane's parties only, after the field: a recoverer killed in between leaves nothing to be redone */
  if :: ok -> ring_if_asleep(cons[l]); ring_if_asleep(prod[l]) :: else -> skip fi; ok = 0
#endif
}
inline rec_ring_all(d) {      /* R5b: ring every party there is */
  skip;
#ifdef SLEEP
#if !defined(R5_LANE) && !defined(BUG_NORING) && !defined(BUG_RINGAFTER)
  x = 1;
  do
  :: x < 5 -> if :: (x != d && !fin[x]
#ifdef NOCO
                     && (d == 1 || x == 1)              /* question: do co-consumers have to be rung? (CFG 32) */
#endif
                     ) -> ring(x) :: else -> skip fi; x++
  :: else -> x = 0; break
  od;
#endif
#endif
}
#ifdef LOST
inline rec_count(d) {
  /* the tokens {d,..} stand still (their owner is dead, we hold the mutex), so reading them in one step changes nothing */
  atomic { G x = 0; do :: x < NREF -> if :: (OWNR(tok[x]) == d && LANEOF(tok[x]) == 1) -> v++ :: else -> skip fi; x++ :: else -> break od; x = 0 };
  atomic { G lost_after[0] = lost[0] + v; v = 0 };
#if NL > 1
  atomic { G x = 0; do :: x < NREF -> if :: (OWNR(tok[x]) == d && LANEOF(tok[x]) == 2) -> v++ :: else -> skip fi; x++ :: else -> break od; x = 0 };
  atomic { G lost_after[1] = lost[1] + v; v = 0 };
#endif
}
#endif

inline rec_stage0(d) {        /* R1, count */
  rec_undo(0,d);
#if NL > 1
  rec_undo(1,d);
#endif
#ifdef LOST
#if !defined(BUG_LOSTLATE) && !defined(BUG_LOSTATONCE) && !defined(BUG_LOSTBOTH)
  rec_count(d);
#endif
#ifdef BUG_LOSTBOTH
  atomic { G x = 0; do :: x < NREF -> if :: (OWNR(tok[x]) == d && LANEOF(tok[x]) == 1) -> v++ :: else -> skip fi; x++ :: else -> break od; x = 0 };
  atomic { G lost[0] = lost[0] + v; v = 0 };            /* mutant: adds at once, no lost_after */
#endif
#endif
}
inline rec_stage1(d) {        /* R2, R3 */
  rec_tail(0,d);
#if NL > 1
  rec_tail(1,d);
#endif
  rec_scan(d);
#ifdef BUG_LOSTLATE
  atomic { G lost_after[0] = lost[0] + v; v = 0 };      /* mutant: counts what it zeroes */
#endif
#ifdef BUG_LOSTATONCE
  atomic { G lost[0] = lost[0] + v; v = 0 };
#endif
}
inline rec_stage2(d) {
  skip;
#ifdef LOST
#if !defined(BUG_LOSTBOTH) && !defined(BUG_LOSTATONCE)
  atomic { G lost[0] = lost_after[0] };
#if NL > 1
  atomic { G lost[1] = lost_after[1] };
#endif
#endif
#endif
}
inline rec_stage3(d) {        /* R4, R5 */
#ifndef BUG_NOHELP
  rec_help(0);
#if NL > 1
  rec_help(1);
#endif
#endif
  rec_detach(0,d);
#if NL > 1
  rec_detach(1,d);
#endif
  rec_ring_all(d);
}
inline recover(d) {
#if defined(SLEEP) || defined(EOS) || defined(LOST)
  atomic { G if :: pst[d] == 0 -> pst[d] = 1 :: else -> skip fi };       /* R0: slot := DEAD, stage 0 */
#endif
#ifdef BUG_DETACHFIRST
  rec_undo(0,d); rec_tail(0,d);
  rec_detach(0,d);
#endif
#ifdef BUG_SCANFIRST
  rec_tail(0,d);
#if NL > 1
  rec_tail(1,d);
#endif
  rec_scan(d);
#endif
#ifdef LOST
  if :: pst[d] == 1 -> rec_stage0(d); atomic { G pst[d] = 2 } :: else -> skip fi;
  if :: pst[d] == 2 -> rec_stage1(d); atomic { G pst[d] = 3 } :: else -> skip fi;
  if :: pst[d] == 3 -> rec_stage2(d); atomic { G pst[d] = 4 } :: else -> skip fi;
  rec_stage3(d)
#else
  rec_stage0(d); rec_stage1(d); rec_stage3(d)
#endif
}
/* which dead process next?  One whose stage is 1 or 2 must be finished before any other is begun */
#define STAGED(w) (pst[w] == 2 || pst[w] == 3)
#ifdef BUG_ANYNEXT
#define NEXT(w) NEEDREC(w)
#else
#define NEXT(w) (NEEDREC(w) && (STAGED(w) || !(STAGED(1)||STAGED(2)||STAGED(3)||STAGED(4))))
#endif

/* ---- teardown of a lane (mutex held, no producer, no consumer): idempotent, redone from the start ---- */
inline teardown(l) {
  do
  :: atomic { G h = head[l] };
     atomic { G p = ctag[IX(l,h)]; x = cref[IX(l,h)] };
     if
     :: p != h -> atomic { G h = 0; p = 0; x = 0; break }
     :: else ->
        atomic { G if :: tok[x] == LV(l,h) -> tok[x] = 0; g_drop(x,l,h) :: else -> skip fi };
        atomic { G head[l] = h+1 }
     fi
  od
}
inline audit_state() {
#ifdef LOST
  assert(lost[0] == glost[0]);
#if NL > 1
  assert(lost[1] == glost[1]);
#endif
#endif
  x = 0;
  do :: x < NREF -> assert(tok[x] == 0); assert(own[x] == 0); x++ :: else -> break od
}
