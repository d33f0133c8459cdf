//! The pond's log: a ring of lines in shared memory that every process writes to and any monitor reads.
//!
//! Writing never waits and never fails: the newest line takes the place of the oldest. A line carries its number, so a
//! reader knows what it has missed, and a half-written line of a killed process is never shown. The one line that is not
//! written is one whose place a living process is still busy with, a whole log later; it is counted.

use crate::attachment::Attachment;
use crate::layout::{LOG_LINES, LogRecord, MAX_LOG_LINE_BYTES};
use crate::monitor::Monitor;
use crate::sync::{Ordering, fence};
use crate::sys::time;
use crate::token::ProcessSlot;
use serde::Serialize;

const WRITER_BITS: u32 = 16;
/// How often a reader looks at a line that is being written, which takes some hundred nanoseconds.
const LOOKS: u32 = 100;

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is not as it should be.
    Warn = 2,
    /// What a user may want to know.
    Info = 3,
    /// What a developer may want to know.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

impl Level {
    fn from_word(word: u32) -> Level {
        match word {
            1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Its number in the pond, from 0.
    pub number: u64,
    /// When it was written, Unix nanoseconds.
    pub unix_ns: u64,
    /// How much it matters.
    pub level: Level,
    /// Pid of the process that wrote it.
    pub pid: u32,
    /// The block it is about; empty: none.
    pub block: String,
    /// What it says, at most 448 bytes; longer lines come as several.
    pub text: String,
}

/// Lines read from the log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLines {
    /// The lines.
    pub lines: Vec<LogLine>,
    /// Number to go on from.
    pub next: u64,
    /// Lines that were overwritten before they could be read, or whose writer was killed.
    pub missed: u64,
}

/// Writes a text about `block`, a line of the log for each of its lines.
///
/// # Crash safety
/// Killed in here, a line is missing.
pub(crate) fn write(pond: &Attachment, block: &str, level: Level, text: &str) {
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut rest = line;
        while !rest.is_empty() {
            let end = rest.floor_char_boundary(MAX_LOG_LINE_BYTES);
            write_line(pond, block, level, &rest[..end]);
            rest = &rest[end..];
        }
    }
}

fn write_line(pond: &Attachment, block: &str, level: Level, text: &str) {
    let header = pond.control.header();
    let number = header.log_lines.fetch_add(1, Ordering::Relaxed);
    crash_point!(LogNumbered);
    let Some(record) = pond.control.log_line(number) else { return };
    let complete = number.wrapping_add(1) << WRITER_BITS;
    let seen = record.state.load(Ordering::Relaxed);
    let busy = seen & ((1 << WRITER_BITS) - 1) != 0;
    let writing = complete | u64::from(pond.me);
    if busy
        || seen > complete
        || record.state.compare_exchange(seen, writing, Ordering::Acquire, Ordering::Relaxed).is_err()
    {
        header.log_dropped.fetch_add(1, Ordering::Relaxed);
        return;
    }
    crash_point!(LogClaimed);
    // Pairs with the reader's fence: who sees any of these words sees that the line is being written.
    fence(Ordering::Release);
    record.unix_ns.store(time::unix_ns() as u64, Ordering::Relaxed);
    record.level.store(level as u32, Ordering::Relaxed);
    record.pid.store(std::process::id(), Ordering::Relaxed);
    record.block.store(block);
    record.text.store(text);
    crash_point!(LogWritten);
    record.state.store(complete, Ordering::Release);
    crash_point!(LogDone);
}

/// Part of recovery: the lines that a dead process was writing are never completed, and their places are free again.
pub(crate) fn forget_unfinished(pond: &Attachment, dead: ProcessSlot) {
    for number in 0..LOG_LINES as u64 {
        let Some(record) = pond.control.log_line(number) else { continue };
        let seen = record.state.load(Ordering::Relaxed);
        if seen & ((1 << WRITER_BITS) - 1) == u64::from(dead) {
            record.state.store(0, Ordering::Release);
            crash_point!(RecoverLogLine);
        }
    }
}

impl Monitor {
    /// Reads the log's lines from number `from` on, as far as the log still has them.
    pub fn log(&self, from: u64) -> LogLines {
        let end = self.control.header().log_lines.load(Ordering::Acquire);
        let start = from.max(end.saturating_sub(LOG_LINES as u64));
        let mut read =
            LogLines { lines: Vec::new(), next: end.max(from), missed: start.saturating_sub(from) };
        for number in start..end {
            let Some(record) = self.control.log_line(number) else { continue };
            match read_line(record, number) {
                Some(line) => read.lines.push(line),
                None => read.missed += 1,
            }
        }
        read
    }
}

/// The line; `None` if it is gone, or its writer was stopped or killed in the middle of it.
fn read_line(record: &LogRecord, number: u64) -> Option<LogLine> {
    for _ in 0..LOOKS {
        match load(record, number) {
            Ok(line) => return Some(line),
            Err(true) => std::thread::yield_now(),
            Err(false) => return None,
        }
    }
    None
}

/// The line, or whether it may still come.
fn load(record: &LogRecord, number: u64) -> Result<LogLine, bool> {
    let complete = (number + 1) << WRITER_BITS;
    let state = record.state.load(Ordering::Acquire);
    if state != complete {
        return Err(state >> WRITER_BITS <= number + 1);
    }
    let line = LogLine {
        number,
        unix_ns: record.unix_ns.load(Ordering::Relaxed),
        level: Level::from_word(record.level.load(Ordering::Relaxed)),
        pid: record.pid.load(Ordering::Relaxed),
        block: record.block.load(),
        text: record.text.load(),
    };
    // Pairs with the writer's fence: a later writer that began meanwhile is seen here.
    fence(Ordering::Acquire);
    if record.state.load(Ordering::Relaxed) == complete { Ok(line) } else { Err(false) }
}
