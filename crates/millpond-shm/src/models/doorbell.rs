//! Sleeping and waking: a lost wake-up leaves a thread asleep for good, which loom reports as a deadlock.

use super::*;
use crate::doorbell::{Doorbell, Sleepers, heavy_fence, light_fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// The kernel's futex: the look at the word and going to sleep are one step as seen by a waker.
struct Futex {
    bucket: Mutex<()>,
    sleepers: Condvar,
}

/// One party: its words, its process's count of sleepers, and the futex behind the bell.
struct Party {
    bell: AtomicU32,
    asleep: AtomicU32,
    sleepers: Sleepers,
    futex: Futex,
}

impl Party {
    fn new() -> Party {
        Party {
            bell: AtomicU32::new(0),
            asleep: AtomicU32::new(0),
            sleepers: Sleepers::default(),
            futex: Futex { bucket: Mutex::new(()), sleepers: Condvar::new() },
        }
    }

    fn doorbell(&self) -> Doorbell<'_> {
        Doorbell { bell: &self.bell, asleep: &self.asleep }
    }

    /// As `Waiter::wait` does, without spinning and without a timeout.
    fn wait(&self, reached: &Reached, ready: impl Fn() -> bool) {
        while !ready() {
            self.doorbell()
                .sleep(&self.sleepers, heavy_fence, &ready, |_, rung| self.futex_wait(rung, reached));
        }
    }

    fn futex_wait(&self, rung: u32, reached: &Reached) {
        let bucket = self.futex.bucket.lock().unwrap();
        if self.bell.load(Ordering::Relaxed) == rung {
            reached.here();
            drop(self.futex.sleepers.wait(bucket).unwrap());
        }
    }

    /// As the sending and the receiving side do after a store that the party may wait for.
    fn tell(&self) {
        light_fence(false);
        self.doorbell().ring_if_asleep(|_| {
            let _bucket = self.futex.bucket.lock().unwrap();
            self.futex.sleepers.notify_all();
        });
    }
}

#[test]
fn a_sleeping_consumer_gets_the_entry() {
    explore_fences(None, |reached| {
        let pond = Pond::new(1, &[1]);
        pond.give(0, 0, 1);
        pond.write(0, 11);
        let party = Arc::new(Party::new());
        let consumer = {
            let (pond, party, reached) = (Arc::clone(&pond), Arc::clone(&party), reached.clone());
            thread::spawn(move || {
                party.wait(&reached, || pond.lane(0).published(0).is_some());
                assert_eq!(pond.pop(0, 2, 0), Some(Reference { pool: 0, slot: 0, token: 0 }));
                assert_eq!(pond.read(0), 11);
            })
        };
        pond.push(0, 0, 0, 0);
        party.tell();
        consumer.join().unwrap();
    });
}

/// The roles swapped: a producer sleeps on a full lane until the consumer has moved head.
#[test]
fn a_sleeping_producer_gets_room() {
    explore_fences(Some(3), |reached| {
        let pond = Pond::new(2, &[1]);
        pond.give(0, 0, 1);
        pond.give(1, 0, 1);
        pond.push(0, 0, 0, 0);
        let party = Arc::new(Party::new());
        let producer = {
            let (pond, party, reached) = (Arc::clone(&pond), Arc::clone(&party), reached.clone());
            thread::spawn(move || {
                party.wait(&reached, || pond.lane(0).head.load(Ordering::Acquire) == 1);
                pond.push(0, 1, 1, 0);
            })
        };
        assert!(pond.pop(0, 2, 0).is_some());
        party.tell();
        producer.join().unwrap();
        assert!(pond.pop(0, 2, 1).is_some());
    });
}

/// Two threads of one party sleep on its bell. The first to leave must not withdraw the other's announcement.
#[test]
fn two_sleepers_of_one_party() {
    explore_fences(Some(2), |reached| {
        let words = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let party = Arc::new(Party::new());
        let sleepers: Vec<_> = (0..2)
            .map(|i| {
                let (words, party, reached) = (Arc::clone(&words), Arc::clone(&party), reached.clone());
                thread::spawn(move || party.wait(&reached, || words[i].load(Ordering::Acquire) != 0))
            })
            .collect();
        for word in &*words {
            word.store(1, Ordering::Release);
            party.tell();
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

/// Competing consumers of one lane, each a party of its own: both are told of each entry, each gets one.
#[test]
fn competing_consumers_each_with_a_bell() {
    explore_fences(Some(2), |reached| {
        let pond = Pond::new(2, &[2]);
        pond.give(0, 0, 1);
        pond.give(1, 0, 1);
        let parties = Arc::new([Party::new(), Party::new()]);
        let consumers: Vec<_> = (0..2usize)
            .map(|i| {
                let (pond, parties, reached) = (Arc::clone(&pond), Arc::clone(&parties), reached.clone());
                thread::spawn(move || {
                    let lane = pond.lane(0);
                    loop {
                        parties[i]
                            .wait(&reached, || lane.published(lane.head.load(Ordering::Acquire)).is_some());
                        if let Some((_, position)) = pond.pop_shared(0, 2 + i as u16) {
                            return position;
                        }
                    }
                })
            })
            .collect();
        for slot in 0..2 {
            pond.push(0, slot.into(), slot, 0);
            // As `output.rs`: one fence a message in front of the look at each consumer; another one does no harm here.
            parties.iter().for_each(Party::tell);
        }
        let mut taken: Vec<u64> = consumers.into_iter().map(|c| c.join().unwrap()).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
    });
}

/// One party sleeps for two lanes with a producer each.
#[test]
fn one_sleeper_on_two_lanes() {
    explore_fences(Some(2), |reached| {
        let pond = Pond::new(2, &[1, 1]);
        pond.give(0, 0, 1);
        pond.give(1, 0, 3);
        let party = Arc::new(Party::new());
        let producers: Vec<_> = (0..2u16)
            .map(|lane| {
                let (pond, party) = (Arc::clone(&pond), Arc::clone(&party));
                thread::spawn(move || {
                    pond.push(lane, 0, lane.into(), 0);
                    party.tell();
                })
            })
            .collect();
        let mut taken = [false, false];
        while taken != [true, true] {
            party.wait(reached, || {
                (0..2).any(|lane| !taken[lane] && pond.lane(lane as u16).published(0).is_some())
            });
            for lane in 0..2 {
                taken[lane] |= !taken[lane] && pond.pop(lane as u16, 2, 0).is_some();
            }
        }
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

/// Two threads that store a word each and tell the party.
fn tellers(words: &Arc<[AtomicU64; 2]>, party: &Arc<Party>) -> Vec<thread::JoinHandle<()>> {
    let tell = |i: usize| {
        let (words, party) = (Arc::clone(words), Arc::clone(party));
        thread::spawn(move || {
            words[i].store(1, Ordering::Release);
            party.tell();
        })
    };
    (0..2).map(tell).collect()
}

/// One that is told twice, by two who do not know of each other: the second need not ring if the first has. What it published is
/// seen nevertheless before the party sleeps again.
#[test]
fn a_ring_that_another_one_spared_is_not_missed() {
    explore_fences(Some(3), |reached| {
        let words = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let party = Arc::new(Party::new());
        let tellers = tellers(&words, &party);
        for word in &*words {
            party.wait(reached, || word.load(Ordering::Acquire) != 0);
        }
        for teller in tellers {
            teller.join().unwrap();
        }
    });
}

/// The thread behind an event descriptor stays announced, and looks (here for whoever has the descriptor) after it has announced itself
/// anew.
#[test]
fn who_stays_announced_misses_nothing() {
    explore_fences(Some(3), |reached| {
        let words = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let party = Arc::new(Party::new());
        let tellers = tellers(&words, &party);
        let all = || words.iter().all(|word| word.load(Ordering::Acquire) != 0);
        let mut seen = party.doorbell().announce(&party.sleepers);
        heavy_fence();
        let mut found = all();
        while !found {
            party.futex_wait(seen, reached);
            let now = party.bell.load(Ordering::Acquire);
            if now != seen {
                seen = now;
                party.doorbell().announce_again(&party.sleepers);
                heavy_fence();
                found = all();
            }
        }
        for teller in tellers {
            teller.join().unwrap();
        }
    });
}
