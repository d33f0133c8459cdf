//! How far apart the two cores are: the time one of them needs to see what the other wrote.
//!
//! On a virtual machine this is not a constant. The host moves virtual cores about, and with them
//! every latency of both sides doubles or halves. The probe makes such a move visible, so that it is
//! not taken for a difference between the two programs.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::stats::Spread;

/// How long one probe takes.
const TIME: Duration = Duration::from_millis(20);

/// A word on a pair of cache lines of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Word(AtomicU64);

/// The probes taken so far.
#[derive(Debug)]
pub struct Probe {
    cores: Option<[usize; 2]>,
    handoffs_ns: Vec<f64>,
}

impl Probe {
    /// A probe between these two cores. It measures nothing unless they are two different ones.
    #[must_use]
    pub fn new(cores: [usize; 2]) -> Self {
        let usable = cores[0] != cores[1] && cores.iter().all(|core| *core < CpuSet::MAX_CPU);
        Self { cores: usable.then_some(cores), handoffs_ns: Vec::new() }
    }

    /// Takes one more probe. One that cannot be taken is left out.
    pub fn take(&mut self) {
        self.handoffs_ns.extend(self.cores.and_then(handoff_ns));
    }

    /// What was found.
    #[must_use]
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.handoffs_ns.clone())
    }
}

/// The median time for a word to get from one core to the other.
fn handoff_ns([first, second]: [usize; 2]) -> Option<f64> {
    let (there, back, stop) = (Word::default(), Word::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            // Unpinned it still answers, only less regularly.
            let _ = pin(second);
            let mut seen = 0;
            while !stop.load(Ordering::Relaxed) {
                let word = there.0.load(Ordering::Acquire);
                if word != seen {
                    seen = word;
                    back.0.store(word, Ordering::Release);
                }
                hint::spin_loop();
            }
        });
        // In a thread too, since the pinning would otherwise stay with the main thread and be
        // inherited by the programs it starts.
        scope.spawn(|| exchange(first, &there, &back, &stop)).join().ok().flatten()
    })
}

fn exchange(core: usize, there: &Word, back: &Word, stop: &AtomicBool) -> Option<f64> {
    let pinned = pin(core);
    let mut times = Vec::new();
    let end = Instant::now() + TIME;
    let mut before = Instant::now();
    for word in 1.. {
        if before >= end || pinned.is_none() {
            break;
        }
        there.0.store(word, Ordering::Release);
        while back.0.load(Ordering::Acquire) != word {
            hint::spin_loop();
        }
        let now = Instant::now();
        times.push((now - before).as_secs_f64() * 1e9 / 2.0);
        before = now;
    }
    stop.store(true, Ordering::Relaxed);
    Spread::of(times).map(|times| times.median)
}

fn pin(core: usize) -> Option<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_is_not_two() {
        let mut probe = Probe::new([0, 0]);
        probe.take();
        assert_eq!(probe.spread(), None);
    }

    #[test]
    fn a_core_that_does_not_exist_is_left_out() {
        let mut probe = Probe::new([CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU - 2]);
        probe.take();
        assert_eq!(probe.spread(), None);
    }
}
