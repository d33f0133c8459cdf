//! Calls that wait for their answers.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millpond_shm::{MailboxAddress, Pond};

use super::{BusError, Json};

/// One call.
pub(super) struct Call {
    responder: MailboxAddress,
    pid: u32,
    topic: String,
    answer: Mutex<Option<Result<Json, BusError>>>,
    answered: Condvar,
}

/// All calls of this process, by correlation.
#[derive(Default)]
pub(super) struct Calls(Mutex<(u64, HashMap<u64, Arc<Call>>)>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<Call>>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, responder: MailboxAddress, pid: u32, topic: &str) -> (u64, Arc<Call>) {
        let call = Arc::new(Call {
            responder,
            pid,
            topic: topic.to_owned(),
            answer: Mutex::new(None),
            answered: Condvar::new(),
        });
        let mut calls = self.lock();
        calls.0 += 1;
        let correlation = calls.0;
        calls.1.insert(correlation, Arc::clone(&call));
        (correlation, call)
    }

    pub(super) fn end(&self, correlation: u64) {
        self.lock().1.remove(&correlation);
    }

    /// `false`: nobody waits for it any more.
    pub(super) fn answer(&self, correlation: u64, answer: Result<Json, BusError>) -> bool {
        let call = self.lock().1.remove(&correlation);
        call.is_some_and(|call| {
            call.set(answer);
            true
        })
    }

    /// Whether a responder of a call is gone.
    pub(super) fn any_gone(&self, pond: &Pond) -> bool {
        self.lock().1.values().any(|call| !pond.is_mailbox_open(call.responder))
    }

    /// Ends the calls whose responders are gone. Their answers, if they gave any, have been taken from the mailbox before.
    pub(super) fn fail_gone(&self, gone: impl Fn(MailboxAddress) -> bool) {
        self.lock().1.retain(|_, call| {
            let is_gone = gone(call.responder);
            if is_gone {
                call.set(Err(BusError::Gone { topic: call.topic.clone(), pid: call.pid }));
            }
            !is_gone
        });
    }

    pub(super) fn stop(&self) {
        self.lock().1.drain().for_each(|(_, call)| call.set(Err(BusError::Stopped)));
    }
}

impl Call {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Json, BusError>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, answer: Result<Json, BusError>) {
        *self.lock() = Some(answer);
        self.answered.notify_all();
    }

    /// Waits for the answer; `None`: the time is over.
    pub(super) fn wait(&self, deadline: Instant) -> Option<Result<Json, BusError>> {
        let mut answer = self.lock();
        loop {
            if let Some(answer) = answer.take() {
                return Some(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return None;
            }
            answer = self.answered.wait_timeout(answer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
