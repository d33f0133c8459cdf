//! The doorbell: how a party sleeps without missing what is made ready for it, and how it is woken.
//!
//! Dekker's pattern. The sleeper announces itself, fences and looks once more; whoever makes something ready stores it, fences
//! and looks for the announcement. At least one of them sees the other. The bell's count, read before the last look, keeps the
//! futex from sleeping when somebody rang in between. The fences and the futex are the caller's, so that models can put
//! their own in place of the kernel's.
//!
//! One ring is enough: whoever has rung says so in the announcement that it answered, and others need not ring for that one
//! again, which until the woken thread has a core would be a system call for every message. Said only behind the wake, so that
//! nobody relies on a process that was stopped or killed before it; and only of that announcement, by its turn, so that a late one
//! says nothing of the next. The sleeper announces itself anew, fences and looks before it sleeps again: what was published
//! without a ring is seen then.

use crate::sync::{AtomicU32, Mutex, Ordering, fence};
use std::sync::PoisonError;

/// The words of one party's doorbell.
#[derive(Clone, Copy)]
pub(crate) struct Doorbell<'a> {
    /// Rung by raising it; what the party sleeps on.
    pub(crate) bell: &'a AtomicU32,
    /// The latest announcement: its turn, and how it stands.
    pub(crate) asleep: &'a AtomicU32,
}

/// How an announcement stands, in the two lowest bits; its turn is above. None of them: nobody of the party sleeps.
const STANDING: u32 = 3;
/// Somebody sleeps, or is about to.
const ASLEEP: u32 = 1;
/// Somebody has rung since: nobody sleeps for long.
const CALLED: u32 = 2;

/// How many threads of the party sleep: its announcement is withdrawn by the last. Private to the party's process.
#[derive(Default)]
pub(crate) struct Sleepers(Mutex<u32>);

impl Sleepers {
    fn change(&self, change: impl FnOnce(&mut u32)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Doorbell<'_> {
    /// Sleeps in `futex_wait` (given the bell and the count at which it may sleep) unless `ready` says, behind the fence, that
    /// there is no need. `true`: ready before sleeping.
    pub(crate) fn sleep(
        self,
        sleepers: &Sleepers,
        heavy_fence: impl FnOnce(),
        ready: impl FnOnce() -> bool,
        futex_wait: impl FnOnce(&AtomicU32, u32),
    ) -> bool {
        let rung = self.announce(sleepers);
        // Also when `ready` panics: else whoever rings would pay for a sleeper that is not there, for ever.
        let _withdrawal = Withdrawal(self, sleepers);
        crash_point!(SleepAnnounced);
        // Between this fence and the futex nothing can be published without either being seen here or ringing.
        heavy_fence();
        let found = ready();
        if !found {
            futex_wait(self.bell, rung);
        }
        crash_point!(SleepOver);
        found
    }

    /// Counts one more sleeper. Returns the bell's count, read before: if it still holds when the sleeper is about to sleep,
    /// nobody has rung since.
    pub(crate) fn announce(self, sleepers: &Sleepers) -> u32 {
        let rung = self.bell.load(Ordering::Acquire);
        // Under the lock: the last sleeper's withdrawal must not wipe out a new one's announcement.
        sleepers.change(|count| {
            *count += 1;
            self.begin_turn();
        });
        rung
    }

    /// For a sleeper that stays announced while it does what it was rung for, before it looks what that is; it fences in between.
    pub(crate) fn announce_again(self, sleepers: &Sleepers) {
        sleepers.change(|_| self.begin_turn());
    }

    fn begin_turn(self) {
        self.change(|word| (word & !STANDING).wrapping_add(STANDING + 1) | ASLEEP);
    }

    /// Against a ringer's change, so that its late word about the turn before can never come behind the new turn.
    fn change(self, change: impl Fn(u32) -> u32) {
        let mut seen = self.asleep.load(Ordering::Relaxed);
        // Goes round again only if a ringer has said that this very turn was called: once.
        while let Err(now) =
            self.asleep.compare_exchange(seen, change(seen), Ordering::AcqRel, Ordering::Relaxed)
        {
            seen = now;
        }
    }

    pub(crate) fn withdraw(self, sleepers: &Sleepers) {
        sleepers.change(|count| {
            *count -= 1;
            if *count == 0 {
                self.forget_sleepers();
            }
        });
    }

    /// Nobody sleeps here, or nobody is there any more. The turn stays: somebody may be late to say that an old one was called.
    pub(crate) fn forget_sleepers(self) {
        self.change(|word| word & !STANDING);
    }

    /// Rings whether anybody sleeps or not.
    pub(crate) fn ring(self, futex_wake: impl FnOnce(&AtomicU32)) {
        self.bell.fetch_add(1, Ordering::Release);
        crash_point!(BellRaised);
        futex_wake(self.bell);
    }

    /// Rings if the party says that it sleeps, and nobody has rung since. The caller has stored what it announces, and fenced.
    #[inline]
    pub(crate) fn ring_if_asleep(self, futex_wake: impl FnOnce(&AtomicU32)) {
        let seen = self.asleep.load(Ordering::Relaxed);
        if seen & STANDING == ASLEEP {
            self.bell.fetch_add(1, Ordering::Release);
            crash_point!(PushBellRaised);
            futex_wake(self.bell);
            // Release: behind the bell. Fails if this turn is over.
            let called = seen ^ ASLEEP ^ CALLED;
            let _ = self.asleep.compare_exchange(seen, called, Ordering::Release, Ordering::Relaxed);
        }
    }
}

/// Withdraws an announcement.
struct Withdrawal<'a>(Doorbell<'a>, &'a Sleepers);

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        self.0.withdraw(self.1);
    }
}

/// The ringing side's fence, between storing what it announces and looking who sleeps. `expedited`: the sleeper's
/// `membarrier` makes this CPU pass a full fence, and only the compiler must keep the order.
#[inline]
pub(crate) fn light_fence(expedited: bool) {
    #[cfg(not(loom))]
    if expedited {
        crate::sync::compiler_fence(Ordering::SeqCst);
        return;
    }
    #[cfg(loom)]
    assert!(!expedited, "loom knows no membarrier");
    fence(Ordering::SeqCst);
}

/// The sleeping side's fence, between its announcement and its last look, where there is no `membarrier`.
pub(crate) fn heavy_fence() {
    fence(Ordering::SeqCst);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_look_that_panics_leaves_no_sleeper_behind() {
        let (bell, asleep, sleepers) = (AtomicU32::new(0), AtomicU32::new(0), Sleepers::default());
        let doorbell = Doorbell { bell: &bell, asleep: &asleep };
        let look = || -> bool {
            assert_eq!(asleep.load(Ordering::Relaxed) & STANDING, ASLEEP);
            panic!("as a block's readiness might")
        };
        let slept = catch_unwind(AssertUnwindSafe(|| doorbell.sleep(&sleepers, || {}, look, |_, _| {})));
        assert!(slept.is_err());
        assert_eq!(asleep.load(Ordering::Relaxed) & STANDING, 0);
        // And the next one counts as the only one.
        assert!(doorbell.sleep(&sleepers, || {}, || true, |_, _| {}));
        assert_eq!(asleep.load(Ordering::Relaxed) & STANDING, 0);
    }

    #[test]
    fn one_turn_is_rung_for_once_and_the_next_again() {
        let (bell, asleep, sleepers) = (AtomicU32::new(0), AtomicU32::new(0), Sleepers::default());
        let doorbell = Doorbell { bell: &bell, asleep: &asleep };
        let wakes = std::cell::Cell::new(0);
        let ring = || doorbell.ring_if_asleep(|_| wakes.set(wakes.get() + 1));
        ring();
        assert_eq!(wakes.get(), 0);
        for turn in 1..=3 {
            doorbell.announce(&sleepers);
            ring();
            ring();
            assert_eq!(wakes.get(), turn);
            doorbell.withdraw(&sleepers);
            ring();
            assert_eq!(wakes.get(), turn);
        }
        // One that is late, and rang for the turn before.
        doorbell.announce(&sleepers);
        doorbell.ring_if_asleep(|_| doorbell.announce_again(&sleepers));
        ring();
        assert_eq!(wakes.get(), 4);
    }
}
