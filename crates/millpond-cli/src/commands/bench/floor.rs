//! What the machine itself costs: the same ping-pong as `latency`, over a bare cache line or a bare futex. Nothing that
//! passes messages between processes can be faster.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millpond_shm::floor::SharedWords;
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::slice::Slice;

/// Words of the asking and of the answering side, each written by that side only.
const ASK: usize = 0;
const ANSWER: usize = 1;
/// Asked for the last time in this slice.
const END: u32 = u32::MAX;
/// How often a side that spins, or how soon one that sleeps, looks whether the other still exists.
const SPINS_BETWEEN_CHECKS: u32 = 1 << 20;
const SLEEP_BETWEEN_CHECKS: Duration = Duration::from_millis(100);

/// By what the two sides learn of each other's word.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Floor {
    /// Both look at it all the time.
    CacheLine,
    /// Both sleep until woken.
    Futex,
}

impl Floor {
    /// Asks for `duration`, recording round trips. `check` is called now and then while nothing is answered, to give up.
    ///
    /// # Errors
    /// What `check` returns.
    pub fn ask(
        self,
        words: &SharedWords,
        asked: &mut u32,
        duration: Duration,
        round_trips: &mut Histogram,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut slice = Slice::begin(duration);
        loop {
            *asked = next(*asked);
            self.store(words, ASK, *asked);
            self.wait_for(words, ANSWER, |answer| answer == *asked, &mut check)?;
            if !slice.lap(round_trips) {
                self.store(words, ASK, END);
                return Ok(());
            }
        }
    }

    /// Answers until the other side has asked for the last time. `seen` is kept from slice to slice.
    ///
    /// # Errors
    /// What `check` returns.
    pub fn answer(
        self,
        words: &SharedWords,
        seen: &mut u32,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        loop {
            let last = *seen;
            *seen = self.wait_for(words, ASK, |asked| asked != last, &mut check)?;
            if *seen == END {
                return Ok(());
            }
            self.store(words, ANSWER, *seen);
        }
    }

    fn store(self, words: &SharedWords, index: usize, value: u32) {
        match self {
            // Release pairs with the Acquire in `wait_for`, as any hand-over of data would need it.
            Self::CacheLine => words.word(index).store(value.into(), Ordering::Release),
            Self::Futex => {
                words.futex_word(index).store(value, Ordering::Release);
                words.futex_wake(index);
            }
        }
    }

    fn wait_for(
        self,
        words: &SharedWords,
        index: usize,
        mut done: impl FnMut(u32) -> bool,
        mut check: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<u32> {
        match self {
            Self::CacheLine => {
                let word: &AtomicU64 = words.word(index);
                loop {
                    for _ in 0..SPINS_BETWEEN_CHECKS {
                        let value = word.load(Ordering::Acquire) as u32;
                        if done(value) {
                            return Ok(value);
                        }
                        std::hint::spin_loop();
                    }
                    check()?;
                }
            }
            Self::Futex => {
                let word: &AtomicU32 = words.futex_word(index);
                let mut checked = Instant::now();
                loop {
                    let value = word.load(Ordering::Acquire);
                    if done(value) {
                        return Ok(value);
                    }
                    words.futex_wait(index, value, Some(SLEEP_BETWEEN_CHECKS));
                    if checked.elapsed() >= SLEEP_BETWEEN_CHECKS {
                        check()?;
                        checked = Instant::now();
                    }
                }
            }
        }
    }
}

/// Numbers go round without 0, the initial value, and [`END`].
fn next(asked: u32) -> u32 {
    if asked >= END - 1 { 1 } else { asked + 1 }
}
