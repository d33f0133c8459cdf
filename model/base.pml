/* base.pml - sizes, crash machinery, and the "ghosts": variables that the protocol never reads; they carry the invariants.
 * Process ids: 1..4 workers, 5 = first recoverer (can be killed as well), 6 = second recoverer (takes over when 5 died).
 * Features (each configuration in run.pml switches on what it needs; see README.md):
 *   SLEEP  bells, sleepers          REDEL  take / finish with redelivery mark
 *   EOS    end of stream            LOST   exact count of what a dead process had in hand (staged recovery)          */
#ifndef NS
#define NS 1            /* buffer slots */
#endif
#ifndef NT
#define NT 1            /* tokens per slot */
#endif
#ifndef NL
#define NL 1            /* lanes */
#endif
#ifndef CAP
#define CAP 1           /* ring capacity */
#endif
#ifndef MAXP
#define MAXP 4          /* positions per lane that the ghosts can record */
#endif
#ifndef MAXK
#define MAXK 2          /* how many processes may be SIGKILLed in one run */
#endif
#ifndef NMSG
#define NMSG 2          /* messages a producer sends */
#endif
#ifndef NPOP
#define NPOP 2          /* entries a consumer takes at most */
#endif
#ifndef HOPS
#define HOPS 1
#endif
#ifndef KM
#define KM 63           /* bit w-1: worker w may be killed; bit 4: recoverer 5 may be killed */
#endif
#define NREF (NS*NT)
#define SLOT(rf) ((rf)/NT)

bool dead[7];           /* SIGKILLed (a fact of the world; the protocol learns it only in recovery) */
bool recov[7];          /* recovery of that process is complete */
bool fin[7];            /* ended properly */
byte mutex;             /* registry mutex: 0 or its holder; a dead holder's mutex can be taken over */
byte kills;
byte prod[NL];          /* lane.producer, 0 = none.  Changed under the registry mutex only */
byte cons[NL];          /* lane.consumer(s), 0 = none */
#ifdef TWOCONS
byte cons2[NL];
#endif

/* ---- ghosts ---- */
byte own[NREF];            /* 0 not a reference, 1..6 held by that process, 8+l queued in lane l */
byte gg[NS];               /* allocation count of the slot */
byte mut[NS];              /* process that is writing through make_mut */
byte gpos[NREF];           /* lane position at which this token was last pushed */
byte npub[NL];             /* number of published entries */
byte pgg[NL*MAXP];         /* allocation count at publication */
bit  taken[NL*MAXP];       /* entry claimed (or dropped) */
bit  ret[NL*MAXP];         /* the pop that claimed it has returned / the taken entry has been finished */
byte ntaken[NL];
bit  dropped[NL*MAXP];     /* claimed by a drop-oldest / teardown / commit instead of a pop */
#ifdef REDEL
byte nmid; byte gmid[NS];  /* number of the message that is in the slot */
bit  dl[NL*8];             /* message was delivered from that lane before */
bit  pubm[NL*8];           /* message was published in that lane */
#define GR(x) x
#else
#define GR(x)
#endif
#ifdef LOST
byte gfrom[NREF];          /* 1 + lane from which the holder popped it, 0 = allocated or cloned */
byte glost[NL];            /* what dead processes had in hand, counted at the moment of the kill */
#define GL(x) x
#else
#define GL(x)
#endif
#ifdef EOS
bool gended[NL];           /* the present producer has ended the stream */
bool gendseen[NL];         /* a consumer was told END */
#define GE(x) x
#else
#define GE(x)
#endif

#define OWN_OTHERS_0(rf) ( ((NT<1)||(rf)==SLOT(rf)*NT+0||own[SLOT(rf)*NT+0]==0) && ((NT<2)||(rf)==SLOT(rf)*NT+1||own[SLOT(rf)*NT+(1%NT)]==0) && ((NT<3)||(rf)==SLOT(rf)*NT+2||own[SLOT(rf)*NT+(2%NT)]==0) )

inline g_alloc(rf)  { assert(own[rf] == 0); assert(OWN_OTHERS_0(rf)); /* I2 */
                      assert(mut[SLOT(rf)] == 0); own[rf] = me; gg[SLOT(rf)]++; GL(gfrom[rf] = 0;)
                      GR(nmid++; gmid[SLOT(rf)] = nmid; assert(nmid < 8);) }
inline g_clone(rf)  { assert(own[rf] == 0); assert(mut[SLOT(rf)] == 0); own[rf] = me; GL(gfrom[rf] = 0) }
inline g_push1(rf,l,ps) { assert(own[rf] == me); assert(mut[SLOT(rf)] == 0); own[rf] = 8+l; gpos[rf] = ps; GL(gfrom[rf] = 0) }
inline g_publish(l,ps,rf) { assert(npub[l] == ps); assert(ps < MAXP); npub[l]++; pgg[l*MAXP+ps] = gg[SLOT(rf)];
                      GR(pubm[l*8+gmid[SLOT(rf)]] = 1;)
                      GE(assert(!gendseen[l]);) }                                   /* nothing comes after END */
inline g_claim(rf,l,hh) { assert(own[rf] == 8+l); own[rf] = me; assert(!taken[l*MAXP+gpos[rf]]); taken[l*MAXP+gpos[rf]] = 1;
#ifndef NOFIFO
    assert(gpos[rf] == hh && hh == ntaken[l] && hh < npub[l]);     /* in order, of exactly that position, and published */
#endif
    GL(gfrom[rf] = l+1;)
    ntaken[l]++; assert(gpos[rf] >= npub[l] || pgg[l*MAXP+gpos[rf]] == gg[SLOT(rf)]) }
inline g_return(rf,l) { assert(own[rf] == me); assert(mut[SLOT(rf)] == 0); assert(!ret[l*MAXP+gpos[rf]]); ret[l*MAXP+gpos[rf]] = 1 }
inline g_undo(rf,l,d) { assert(own[rf] == d); assert(!ret[l*MAXP+gpos[rf]]); /* I3: nothing finished or returned is delivered again */
                      assert(taken[l*MAXP+gpos[rf]]); taken[l*MAXP+gpos[rf]] = 0; ntaken[l]--; own[rf] = 8+l; GL(gfrom[rf] = 0) }
inline g_release(rf) { assert(own[rf] == me); assert(mut[SLOT(rf)] == 0 ); own[rf] = 0; GL(gfrom[rf] = 0) }
inline g_drop(rf,l,hh) { assert(own[rf] == 8+l); own[rf] = 0; dropped[l*MAXP+gpos[rf]] = 1; assert(!taken[l*MAXP+gpos[rf]]); taken[l*MAXP+gpos[rf]] = 1; ntaken[l]++ }
inline g_mut(rf)    { assert(own[rf] == me); assert(OWN_OTHERS_0(rf)); assert(mut[SLOT(rf)] == 0); mut[SLOT(rf)] = me }
inline g_unmut(rf)  { assert(own[rf] == me); assert(OWN_OTHERS_0(rf)); assert(mut[SLOT(rf)] == me); mut[SLOT(rf)] = 0 }
/* recovery frees token rf of dead process d */
inline g_free(rf,d)  { assert(own[rf] == 0 || own[rf] == d || (own[rf] >= 8 && gpos[rf] >= npub[own[rf]-8]));
                      own[rf] = 0; GL(gfrom[rf] = 0;) if :: (mut[SLOT(rf)] == d) -> mut[SLOT(rf)] = 0 :: else -> skip fi }

/* SIGKILL: before each of its steps, and while it waits, a process may die; then it takes no further shared-memory step.
 * (Two threads of one process carry the same id: when one is killed, the others stop at their next step.) */
#define KILLABLE(w) (((KM)>>((w)-1))&1)
#define MAYDIE (!dead[me] && kills < MAXK && KILLABLE(me) && (me < 5 || (me == 5 && kills > 0)))
#define KILL   g_killed(me); dead[me] = 1; kills++
#define G if :: dead[me] -> goto died :: MAYDIE -> KILL; goto died :: !dead[me] -> skip fi;
/* blocking step: wait for c, then do the rest atomically (or die) */
#define W(c,...) atomic { if :: dead[me] -> goto died :: MAYDIE -> KILL; goto died :: (!dead[me] && (c)) -> __VA_ARGS__ fi }
#ifdef LOST
/* what the victim w has in hand: popped (exclusive lane: pop has returned; shared lane: claimed), not released, not forwarded */
inline g_killed(w) {
  gk = 0;
  do
  :: gk < NREF -> if :: (own[gk] == w && gfrom[gk] != 0) ->
                       if :: (SL(gfrom[gk]-1) || ret[(gfrom[gk]-1)*MAXP+gpos[gk]]) -> glost[gfrom[gk]-1]++ :: else -> skip fi
                     :: else -> skip fi; gk++
  :: else -> gk = 0; break
  od
}
byte gk;
#else
inline g_killed(w) { skip }
#endif
/* private variables of a process, in two parts: base and features */
#ifdef SLEEP
#define L_SLEEP byte e, y;
#define Z_SLEEP e=0; y=0;
#else
#define L_SLEEP
#define Z_SLEEP
#endif
#ifdef REDEL
#define L_REDEL byte nx; bool red;
#define Z_REDEL nx=0; red=0;
#else
#define L_REDEL
#define Z_REDEL
#endif
#if defined(SLEEP) || defined(EOS)
#define L_LOOK byte f, res; bool g; byte gsn;
#define Z_LOOK f=0; res=0; g=0; gsn=0;
#else
#define L_LOOK
#define Z_LOOK
#endif
#define LOCALS byte s, r, h, p, x, v, ref, ref2; short t; bool ok; L_SLEEP L_REDEL L_LOOK
#define RESET s=0; r=0; h=0; p=0; x=0; v=0; ref=0; ref2=0; t=0; ok=0; Z_SLEEP Z_REDEL Z_LOOK
#define ENDED(w) (fin[w] || recov[w])
#define NEEDREC(w) (dead[w] && !recov[w])
