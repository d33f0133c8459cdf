//! Ending the processes of a pond in order, by nobody's plan: who is sent nothing any more is asked to end, sources first.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millpond_shm::{Monitor, Role, Snapshot};
use rustix::process::Signal;

use super::processes::Victim;

/// Between two looks at who is left.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks all processes of the pond to end, except this one and runtime servers, each when nobody alive sends to it any more, so
/// that it works off what is queued. Processes that send to each other in a circle are asked together.
///
/// Returns whether they have all ended by the deadline (`None`: waits for ever), or before `give_up` was true.
///
/// # Errors
/// If the system cannot wait.
pub fn end_in_order(
    monitor: &Monitor,
    deadline: Option<Instant>,
    mut give_up: impl FnMut() -> bool,
) -> std::io::Result<bool> {
    let mut asked = BTreeSet::new();
    loop {
        let pond = monitor.snapshot();
        let left = living(&pond);
        if left.is_empty() {
            return Ok(true);
        }
        let mut due: Vec<u32> = left.iter().copied().filter(|&pid| !is_fed(&pond, &left, pid)).collect();
        if due.is_empty() && left.iter().all(|pid| !asked.contains(pid)) {
            due.clone_from(&left);
        }
        for pid in due {
            if asked.insert(pid)
                && let Some(process) = member(monitor, pid)
            {
                process.signal(Signal::TERM);
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) || give_up() {
            return Ok(false);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The process, if it is still the one that the pond lists.
pub fn member(monitor: &Monitor, pid: u32) -> Option<Victim> {
    let victim = Victim::open(pid)?;
    let listed =
        monitor.snapshot().processes.iter().any(|process| process.pid == pid && process.state != "dead");
    listed.then_some(victim)
}

fn living(pond: &Snapshot) -> Vec<u32> {
    let me = std::process::id();
    let processes = pond.processes.iter().filter(|process| process.state != "dead");
    processes.filter(|p| p.pid != me && p.role != Role::Server).map(|p| p.pid).collect()
}

/// Another living process sends to it.
fn is_fed(pond: &Snapshot, living: &[u32], pid: u32) -> bool {
    pond.connections.iter().any(|connection| {
        let sender = connection.sender_pid.filter(|sender| *sender != pid && living.contains(sender));
        sender.is_some() && connection.state == "open" && connection.receiver_pids.contains(&pid)
    })
}
