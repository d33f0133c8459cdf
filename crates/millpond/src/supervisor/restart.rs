//! When a block that died is started again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::process::Death;
use crate::flowgraph::Restart;

/// More restarts than this within [`WINDOW`] mean that restarting does not help.
const LIMIT: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Pause before the second restart; it doubles from then on. The first one comes at once.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The recent restarts of one block.
#[derive(Debug, Default)]
pub(super) struct RestartHistory {
    recent: VecDeque<Instant>,
}

impl RestartHistory {
    /// How long to wait before the block is started again; `None`: it is given up.
    ///
    /// `progressed` says whether the process that died had taken or sent anything. A block that fails without having done so
    /// would fail the same way again. One that was killed may do better.
    pub(super) fn after(
        &mut self,
        death: &Death,
        restart: Restart,
        progressed: bool,
        now: Instant,
    ) -> Option<Duration> {
        let hopeless = matches!(death, Death::Failed { .. }) && !progressed;
        while self.recent.front().is_some_and(|restart| now.duration_since(*restart) > WINDOW) {
            self.recent.pop_front();
        }
        if restart == Restart::Never || hopeless || self.recent.len() >= LIMIT {
            return None;
        }
        let pause = match u32::try_from(self.recent.len()).unwrap_or(u32::MAX) {
            0 => Duration::ZERO,
            restarts => FIRST_PAUSE * 2u32.pow(restarts - 1),
        };
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

    #[test]
    fn pauses_grow_up_to_the_limit() {
        let (mut history, now) = (RestartHistory::default(), Instant::now());
        let pauses: Vec<_> =
            (0..6).map(|_| history.after(&killed(), Restart::OnFailure, true, now)).collect();
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pauses, [ms(0), ms(100), ms(200), ms(400), ms(800), None]);
    }

    #[test]
    fn deaths_long_ago_do_not_count() {
        let (mut history, start) = (RestartHistory::default(), Instant::now());
        for n in 0..100 {
            let now = start + Duration::from_secs(61) * n;
            assert_eq!(history.after(&killed(), Restart::OnFailure, false, now), Some(Duration::ZERO));
        }
    }

    #[test]
    fn failing_without_progress_is_hopeless() {
        let (mut history, now) = (RestartHistory::default(), Instant::now());
        let failed = Death::Failed { cause: "no such file".to_owned() };
        assert_eq!(history.after(&failed, Restart::OnFailure, true, now), Some(Duration::ZERO));
        assert_eq!(history.after(&failed, Restart::OnFailure, false, now), None);
        assert_eq!(history.after(&killed(), Restart::Never, true, now), None);
    }
}
