//! A steady rate for blocks that make something at fixed times.

use std::time::{Duration, Instant};

use crate::block::Pause;

/// Ticks at a fixed rate, at `start + n / rate`: deadlines are absolute, so neither late wake-ups nor slow work add up to a
/// drift. Ticks that were missed altogether are skipped and counted.
#[derive(Debug)]
pub struct Pace {
    rate_hz: f64,
    start: Option<Instant>,
    next: u64,
    missed: u64,
}

impl Pace {
    /// The first tick is due one period after the first call of [`tick`](Pace::tick). The rate must be positive.
    pub fn new(rate_hz: f64) -> Self {
        Self { rate_hz, start: None, next: 1, missed: 0 }
    }

    /// Succeeds once for each tick that is due.
    ///
    /// # Errors
    /// [`Pause::Until`] the next tick.
    pub fn tick(&mut self) -> Result<(), Pause> {
        self.tick_at(Instant::now())
    }

    /// Ticks skipped because nobody asked in time.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    fn tick_at(&mut self, now: Instant) -> Result<(), Pause> {
        let start = *self.start.get_or_insert(now);
        let due = start + self.offset(self.next);
        if now < due {
            return Err(Pause::Until(due));
        }
        let last_due = ((now - start).as_secs_f64() * self.rate_hz) as u64;
        // Rounding may put a tick that is due at this very moment either side of it.
        let last_due = last_due.max(self.next);
        self.missed += last_due - self.next;
        self.next = last_due + 1;
        Ok(())
    }

    fn offset(&self, tick: u64) -> Duration {
        Duration::from_secs_f64(tick as f64 / self.rate_hz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_due(pace: &mut Pace, now: Instant) -> Instant {
        match pace.tick_at(now) {
            Err(Pause::Until(due)) => due,
            other => panic!("expected a pause, got {other:?}"),
        }
    }

    #[test]
    fn late_calls_do_not_shift_later_ticks() {
        let start = Instant::now();
        let mut pace = Pace::new(100.0);
        assert_eq!(next_due(&mut pace, start), start + Duration::from_millis(10));
        for n in 1..1000u32 {
            let due = start + Duration::from_millis(10) * n;
            let late = Duration::from_micros(u64::from(n * 37 % 9_000));
            pace.tick_at(due + late).expect("due");
            assert!(
                next_due(&mut pace, due + late) - (due + Duration::from_millis(10))
                    < Duration::from_nanos(10)
            );
        }
        assert_eq!(pace.missed(), 0);
    }

    #[test]
    fn missed_ticks_are_skipped_and_counted() {
        let start = Instant::now();
        let mut pace = Pace::new(10.0);
        assert_eq!(next_due(&mut pace, start), start + Duration::from_millis(100));
        pace.tick_at(start + Duration::from_millis(350)).expect("due");
        assert_eq!(pace.missed(), 2);
        assert_eq!(
            next_due(&mut pace, start + Duration::from_millis(350)),
            start + Duration::from_millis(400)
        );
    }
}
