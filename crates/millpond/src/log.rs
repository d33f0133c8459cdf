//! Where the `tracing` events of blocks go: into the pond's log, each with the block that caused it.
//!
//! Spans are not kept; a program that wants them installs a subscriber of its own before its block runs.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::sync::{PoisonError, RwLock};

use millpond_shm::{Level, Pond};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Says which events are logged: `error`, `warn`, `info` (the default), `debug` or `trace`.
const LEVEL_VARIABLE: &str = "MILLPOND_LOG";

thread_local! {
    static BLOCK: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on, what this thread logs is about this block.
pub(crate) fn is_about(block: &str) {
    BLOCK.with_borrow_mut(|about| {
        if about != block {
            block.clone_into(about);
        }
    });
}

/// Sends this process's events to a pond's log while this lives, unless the program has a subscriber of its own.
pub(crate) struct ToPond(());

/// The subscriber stays for good; the pond must not, or the process could not leave it.
static POND: RwLock<Option<Pond>> = RwLock::new(None);

impl ToPond {
    pub(crate) fn new(pond: &Pond) -> ToPond {
        *POND.write().unwrap_or_else(PoisonError::into_inner) = Some(pond.clone());
        let level = std::env::var(LEVEL_VARIABLE).ok().and_then(|level| level.parse().ok());
        // It fails if there is one: this one, from earlier, or the program's own.
        let _ = tracing::subscriber::set_global_default(PondLog {
            max_level: level.unwrap_or(LevelFilter::INFO),
        });
        ToPond(())
    }
}

impl Drop for ToPond {
    fn drop(&mut self) {
        *POND.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

struct PondLog {
    max_level: LevelFilter,
}

impl Subscriber for PondLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.max_level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max_level)
    }

    fn event(&self, event: &Event<'_>) {
        if let Some(pond) = &*POND.read().unwrap_or_else(PoisonError::into_inner) {
            let mut text = Text(String::new());
            event.record(&mut text);
            BLOCK.with_borrow(|block| pond.log(block, level(*event.metadata().level()), &text.0));
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

/// An event as text: its message, then its other fields as `name=value`.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            let _ = write!(self.0, " {}={value:?}", field.name());
        }
    }
}
