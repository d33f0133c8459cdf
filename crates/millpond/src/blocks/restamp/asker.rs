//! Asks another clock, again and again, on a thread of its own.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::align::ClockEstimate;
use crate::bus::{Bus, BusError, Json, json};
use crate::prelude::*;

/// An answer that takes longer is no good: half of the time is its uncertainty.
const TIMEOUT: Duration = if cfg!(test) { Duration::from_secs(3600) } else { Duration::from_secs(1) };

/// The estimate, and the thread that improves it.
pub(super) struct Asker {
    topic: String,
    every: Duration,
    shared: Arc<Shared>,
    /// The thread, and the bus on which it asks.
    thread: Option<(JoinHandle<()>, Bus)>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    clock: ClockEstimate,
    asks: bool,
    ends: bool,
    /// The call that may be waiting for its answer.
    question: Option<u64>,
    /// Why the latest question was in vain.
    failure: Option<String>,
}

impl Asker {
    /// # Errors
    /// A topic that is none.
    pub(super) fn new(topic: String, every: Duration, asks: bool, clock: ClockEstimate) -> Result<Self> {
        crate::bus::check_topic(&topic)?;
        let state = State { clock, asks, ends: false, question: None, failure: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        Ok(Self { topic, every, shared, thread: None })
    }

    /// Begins to ask.
    pub(super) fn start(&mut self, io: &Io) -> Result<()> {
        let (shared, bus, tell) = (Arc::clone(&self.shared), io.bus().clone(), io.notes());
        let (block, topic, every) = (io.block().to_owned(), self.topic.clone(), self.every);
        let thread = std::thread::Builder::new().name("clock".to_owned()).spawn(move || {
            while shared.wants_to_ask() {
                match shared.ask(&bus, &topic) {
                    Ok(probe) => {
                        if let Some(estimate) = shared.add(probe) {
                            // Only a wrong topic or value cannot be published, and these are neither.
                            let _ = bus.publish(&format!("{block}/clock"), &estimate);
                        }
                    }
                    Err(BusError::Stopped) => break,
                    Err(error) => {
                        let why = error.to_string();
                        let is_first = shared.lock().failure.replace(why.clone()).is_none();
                        if is_first {
                            tell(&format!(
                                "the clock `{topic}` does not answer, the estimate stays as it is: {why}"
                            ));
                        }
                    }
                }
                shared.pause(every);
            }
        });
        let no_thread = |source| millpond_shm::Error::System {
            action: "start a thread to ask another clock".to_owned(),
            source,
        };
        self.thread = Some((thread.map_err(no_thread)?, io.bus().clone()));
        Ok(())
    }

    pub(super) fn set_asks(&self, asks: bool) {
        self.shared.lock().asks = asks;
        self.shared.changed.notify_all();
    }

    /// What our clock shows when the other one shows this; `None` before the first answer.
    pub(super) fn to_local(&self, remote_ns: i64) -> Option<i64> {
        self.shared.lock().clock.to_local(remote_ns)
    }

    pub(super) fn clock(&self) -> ClockEstimate {
        self.shared.lock().clock.clone()
    }

    /// The estimate, and how asking goes.
    pub(super) fn describe(&self) -> Json {
        let state = self.shared.lock();
        let mut estimate = describe(&state.clock);
        estimate["asks"] = json!(state.asks);
        estimate["failure"] = json!(state.failure);
        estimate
    }
}

impl Drop for Asker {
    /// Waits for the thread, so that nobody uses the pond behind its block, but not for the answer to its question.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ends = true;
        let question = state.question;
        drop(state);
        self.shared.changed.notify_all();
        if let Some((thread, bus)) = self.thread.take() {
            if let Some(question) = question {
                bus.give_up(question);
            }
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing is to be asked; false: not any more.
    fn wants_to_ask(&self) -> bool {
        let is_idle = |state: &mut State| !state.asks && !state.ends;
        let state = self.changed.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        !state.ends
    }

    /// Asks once.
    fn ask(&self, bus: &Bus, topic: &str) -> Result<Probe, BusError> {
        let sent_ns = now_ns();
        let answer = bus.call_begun(topic, &Json::Null, TIMEOUT, |question| {
            let mut state = self.lock();
            state.question = Some(question);
            if state.ends {
                bus.give_up(question);
            }
        })?;
        probe(sent_ns, &answer, now_ns()).map_err(|why| BusError::Refused { why })
    }

    fn pause(&self, time: Duration) {
        let state = self.lock();
        drop(self.changed.wait_timeout_while(state, time, |state| state.asks && !state.ends));
    }

    /// Returns the estimate if it is a new one.
    fn add(&self, probe: Probe) -> Option<Json> {
        let mut state = self.lock();
        state.failure = None;
        let is_new = state.clock.add_probe(probe.sent_ns, probe.remote_ns, probe.received_ns);
        is_new.then(|| describe(&state.clock))
    }
}

/// What is published and answered about an estimate.
pub(super) fn describe(clock: &ClockEstimate) -> Json {
    let latest_ns = clock.latest_remote_ns();
    let bound = clock.error_bound();
    json!({
        "offset_ns": latest_ns.and_then(|remote_ns| clock.offset_ns(remote_ns)),
        "drift_ppm": clock.drift_ppm(),
        "comparisons": clock.comparisons(),
        "error_ns": bound.map(|(_, error_ns)| error_ns),
        "error_at_ns": bound.map(|(remote_ns, _)| remote_ns),
    })
}

/// When a question was sent and answered on our clock, and what the other one was in between.
#[derive(Debug, PartialEq)]
struct Probe {
    sent_ns: i64,
    remote_ns: i64,
    received_ns: i64,
}

/// The time that the other side took between two readings is no part of the round trip.
fn probe(sent_ns: i64, answer: &Json, received_ns: i64) -> Result<Probe, String> {
    if let Some(remote_ns) = answer.as_i64() {
        return Ok(Probe { sent_ns, remote_ns, received_ns });
    }
    let readings = answer.as_array().map(|readings| readings.iter().map(Json::as_i64).collect::<Vec<_>>());
    let Some(&[Some(first_ns), Some(second_ns)]) = readings.as_deref() else {
        return Err(format!(
            "it answered {answer} where its time in whole ns, or two such times [received, sent], were expected"
        ));
    };
    let round_trip_ns = received_ns.abs_diff(sent_ns);
    match second_ns.checked_sub(first_ns) {
        Some(taken_ns) if taken_ns >= 0 && taken_ns.unsigned_abs() <= round_trip_ns => Ok(Probe {
            sent_ns: sent_ns + taken_ns / 2,
            remote_ns: first_ns + taken_ns / 2,
            received_ns: received_ns - taken_ns / 2,
        }),
        _ => Err(format!(
            "it answered [received, sent] = {answer}, which cannot lie within a round trip of {round_trip_ns} ns"
        )),
    }
}

/// Of this machine's clock.
pub(super) fn now_ns() -> i64 {
    let Timestamp::Absolute(ns) = Timestamp::now() else { unreachable!("now is absolute") };
    ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn ends_although_a_responder_hangs() {
        let params = [("mode", "clock".into()), ("ask", "scope/time".into()), ("ask_every_ms", 1.into())];
        let mut bench = Bench::of::<super::super::Restamp>(&params).unwrap();
        let requests = bench.bus().answer("scope/time").unwrap();
        bench.push_at("in", 0, &[0.0]).unwrap();
        bench.run().unwrap();
        let patience = Duration::from_secs(60);
        let unanswered = requests.next(patience).unwrap().expect("a question");
        let (ended, has_ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(bench);
            ended.send(()).unwrap();
        });
        has_ended.recv_timeout(patience).expect("the block has ended");
        drop(unanswered);
    }

    #[test]
    fn an_answer_is_one_reading_or_two() {
        let found = |sent_ns, remote_ns, received_ns| Ok(Probe { sent_ns, remote_ns, received_ns });
        assert_eq!(probe(100, &json!(-7), 160), found(100, -7, 160));
        assert_eq!(probe(100, &json!([5000, 5020]), 160), found(110, 5010, 150));
        for (answer, problem) in [
            (json!([5000, 5061]), "within a round trip of 60 ns"),
            (json!([5000, 4999]), "within a round trip of 60 ns"),
            (json!([i64::MIN, i64::MAX]), "within a round trip of 60 ns"),
            (json!([1]), "where its time in whole ns"),
            (json!(1.5), "it answered 1.5"),
            (json!(null), "it answered null"),
        ] {
            let refusal = probe(100, &answer, 160).expect_err("no such answer");
            assert!(refusal.contains(problem), "{answer}: {refusal}");
        }
    }
}
