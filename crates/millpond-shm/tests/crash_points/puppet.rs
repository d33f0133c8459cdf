//! The test's end of a child process that obeys commands (see `actor.rs`): what it said, and how it died.

use crate::support::{Child, DEADLINE, eventually};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Instant;

pub struct Puppet {
    child: Child,
    /// Everything it said but `done`, in order.
    events: Vec<String>,
    /// Commands that it has not said `done` to.
    pending: usize,
    ended: bool,
}

impl Puppet {
    pub fn start() -> Puppet {
        Puppet { child: Child::spawn("actor", &[]), events: Vec::new(), pending: 0, ended: false }
    }

    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Gives a command and does not wait for its end.
    pub fn tell(&mut self, command: &str) {
        self.pending += 1;
        // A process that has died in the middle of an earlier command does not listen any more.
        let _ = self.child.try_tell(command);
    }

    /// Gives a command and waits for its end; the process must live.
    pub fn obey(&mut self, command: &str) {
        self.tell(command);
        assert!(self.finishes(), "the process died of `{command}`: {:?}", self.child.wait());
    }

    pub fn obey_all(&mut self, commands: &[&str]) {
        commands.iter().for_each(|c| self.obey(c));
    }

    /// Waits for the end of every command; `false`: the process died.
    pub fn finishes(&mut self) -> bool {
        while self.pending > 0 && self.listen() {}
        !self.ended
    }

    /// Hears one line; `false`: there are no more.
    fn listen(&mut self) -> bool {
        match self.child.line_or_end() {
            Some(line) if line == "done" => self.pending -= 1,
            Some(line) => self.events.push(line),
            None => self.ended = true,
        }
        !self.ended
    }

    /// Hears everything that a process said before it died, and asserts that it died by this signal.
    pub fn assert_died_by(&mut self, signal: i32, where_: &str) -> ExitStatus {
        while self.listen() {}
        let status = self.child.wait();
        assert_eq!(status.signal(), Some(signal), "not dead at {where_}: {status:?}, said {:?}", self.events);
        status
    }

    pub fn kill(&mut self) {
        self.child.kill();
        while self.listen() {}
    }

    pub fn stop(&self) {
        self.child.stop();
    }

    pub fn go_on(&self) {
        self.child.signal(rustix::process::Signal::CONT);
    }

    /// Waits until it has said `event`.
    pub fn hear(&mut self, event: &str) {
        let start = Instant::now();
        while !self.said(event) {
            assert!(self.listen(), "the process died before `{event}`, said {:?}", self.events);
            assert!(start.elapsed() < DEADLINE, "it never said `{event}`, but {:?}", self.events);
        }
    }

    pub fn said(&self, event: &str) -> bool {
        self.events.iter().any(|e| e == event)
    }

    pub fn events(&self) -> &[String] {
        &self.events
    }

    /// Waits until every thread of it sleeps in the kernel, or until it is dead.
    pub fn falls_asleep(&mut self) {
        eventually("the process sleeps", || self.child.is_in_state('S') || self.is_dead());
    }

    pub fn is_dead(&mut self) -> bool {
        self.child.has_ended().is_some()
    }

    /// Messages that it said to have done `what` with at `port` ("took", "released"), and whether marked as delivered again.
    pub fn messages(&self, port: &str, what: &str) -> Vec<Message> {
        let prefix = format!("{port} {what} ");
        let parse = |event: &String| {
            let mut words = event.strip_prefix(&prefix)?.split(' ');
            let sequence = words.next()?.parse().ok()?;
            Some(Message { sequence, again: words.next() == Some("again") })
        };
        self.events.iter().filter_map(parse).collect()
    }

    /// Their numbers alone.
    pub fn sequences(&self, port: &str, what: &str) -> Vec<u64> {
        self.messages(port, what).into_iter().map(|m| m.sequence).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub sequence: u64,
    pub again: bool,
}
