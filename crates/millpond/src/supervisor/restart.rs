//! When a block that died is started again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::process::Death;
use crate::flowgraph::{Restart, RestartWhen};

/// Pause before the second restart in a row without progress; it doubles from then on. The first one comes at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The recent restarts of one block.
#[derive(Debug, Default)]
pub(super) struct RestartHistory {
    recent: VecDeque<Instant>,
    /// Restarts since the block last took or sent anything.
    fruitless: u32,
}

impl RestartHistory {
    /// How long to wait before the block is started again; `None`: it is given up.
    ///
    /// `progressed` says whether the process that died had taken or sent anything. A block that fails without having done so
    /// would fail the same way again, unless it is always started again. One that was killed may do better.
    pub(super) fn after(
        &mut self,
        death: &Death,
        restart: Restart,
        progressed: bool,
        now: Instant,
    ) -> Option<Duration> {
        let hopeless = matches!(death, Death::Failed { .. }) && !progressed;
        let wanted = match restart.when {
            RestartWhen::Never => false,
            RestartWhen::OnFailure => !hopeless && *death != Death::Ended,
            RestartWhen::Always => true,
        };
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > restart.within) {
            self.recent.pop_front();
        }
        if !wanted || self.recent.len() >= restart.limit as usize {
            return None;
        }
        if progressed {
            self.fruitless = 0;
        }
        let pause = match self.fruitless {
            0 => Duration::ZERO,
            restarts => (FIRST_PAUSE * 2u32.pow(restarts.min(20) - 1)).min(LONGEST_PAUSE),
        };
        self.fruitless += 1;
        self.recent.push_back(now);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed() -> Death {
        Death::Signal { signal: 9 }
    }

    const ON_FAILURE: Restart =
        Restart { when: RestartWhen::OnFailure, limit: 5, within: Duration::from_secs(60) };
    const ALWAYS: Restart = Restart { when: RestartWhen::Always, limit: 200, ..ON_FAILURE };
    const NEVER: Restart = Restart { when: RestartWhen::Never, ..ON_FAILURE };

    #[test]
    fn pauses_grow_up_to_the_limit() {
        let (mut history, now) = (RestartHistory::default(), Instant::now());
        let pauses: Vec<_> = (0..6).map(|_| history.after(&killed(), ON_FAILURE, false, now)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pauses, [ms(0), ms(100), ms(200), ms(400), ms(800), None]);
        let last = (0..100).map(|_| history.after(&Death::Ended, ALWAYS, false, now)).last();
        assert_eq!(last, Some(Some(LONGEST_PAUSE)));
        assert_eq!(history.after(&killed(), ALWAYS, true, now), ms(0), "it had got on");
    }

    #[test]
    fn deaths_long_ago_do_not_count() {
        let (mut history, start) = (RestartHistory::default(), Instant::now());
        for n in 0..100 {
            let now = start + Duration::from_secs(61) * n;
            assert_eq!(history.after(&killed(), ON_FAILURE, true, now), Some(Duration::ZERO));
        }
    }

    #[test]
    fn failing_without_progress_is_hopeless() {
        let (mut history, now) = (RestartHistory::default(), Instant::now());
        let failed = Death::Failed { cause: "no such file".to_owned() };
        assert_eq!(history.after(&failed, ON_FAILURE, true, now), Some(Duration::ZERO));
        assert_eq!(history.after(&failed, ON_FAILURE, false, now), None);
        assert_eq!(history.after(&Death::Ended, ON_FAILURE, true, now), None);
        assert_eq!(history.after(&killed(), NEVER, true, now), None);
        assert_eq!(history.after(&failed, ALWAYS, false, now), Some(Duration::from_millis(100)));
    }
}
