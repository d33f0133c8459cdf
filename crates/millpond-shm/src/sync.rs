//! The one door to atomics: the real ones, or loom's when the protocol is being model-checked (`--cfg loom`).

#[cfg(loom)]
mod modelled;

#[cfg(loom)]
pub(crate) use self::modelled::{AtomicU32, AtomicU64, start_clock};
#[cfg(loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{Ordering, fence},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence},
};

/// Words that only this process sees; never modelled.
pub(crate) mod private {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
}
