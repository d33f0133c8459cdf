//! Every crash point, with real processes and a real SIGKILL: whatever a process is in the middle of, nothing is lost, nothing
//! is freed too early, nothing is delivered twice, and the others go on.
//!
//! `actor.rs` is what the processes do, `run.rs` how one dies and what must hold then, the other files are the stories.

#[path = "../support/mod.rs"]
mod support;

mod actor;
mod control;
mod puppet;
mod receiving;
mod recovering;
mod run;
mod sending;

use millpond_shm::crash_point::{self, CrashPoint};
use std::collections::BTreeSet;

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    if let Some((_, parent)) = support::Parent::scenario() {
        actor::run(parent);
    }
}

/// Killed at by `mailboxes.rs`.
const OF_MAILBOXES: [CrashPoint; 21] = [
    CrashPoint::MailboxOwned,
    CrashPoint::LabelWritten,
    CrashPoint::MailTicket,
    CrashPoint::RoomMarkCleared,
    CrashPoint::MailboxTold,
    CrashPoint::MailboxForgotten,
    CrashPoint::MailboxMade,
    CrashPoint::MailboxOpened,
    CrashPoint::LabelCleared,
    CrashPoint::LabelStored,
    CrashPoint::MailClaimed,
    CrashPoint::MailWritten,
    CrashPoint::MailReady,
    CrashPoint::MailCopied,
    CrashPoint::MailFreed,
    CrashPoint::RoomBellRaised,
    CrashPoint::MailClosing,
    CrashPoint::MailSwept,
    CrashPoint::SettingsWritten,
    CrashPoint::RecoverMailCell,
    CrashPoint::RecoverMailbox,
];

/// No crash point is dead: every one is come by in some scenario, and so killed at by its test.
#[test]
fn every_crash_point_is_reached() {
    let scenarios = [sending::ALL, receiving::ALL, control::ALL].concat();
    let mut reached: BTreeSet<usize> = scenarios
        .iter()
        .flat_map(|scenario| scenario.rehearse())
        .map(|(point, _)| run::index_of(point))
        .collect();
    reached.extend(recovering::rehearse_all().into_iter().chain(OF_MAILBOXES).map(run::index_of));
    let missed: Vec<&str> = crash_point::ALL
        .iter()
        .enumerate()
        .filter(|(index, _)| !reached.contains(index))
        .map(|(_, (_, name))| *name)
        .collect();
    assert!(missed.is_empty(), "no scenario comes by {missed:#?}");
}
