//! loom's atomics, made to try every interleaving.
//!
//! loom's partial-order reduction remembers only the last access to an object, so a thread that loads and then stores hides its
//! load from an earlier load of another thread, and the interleaving between the two is never tried. A read-modify-write of
//! one common word before every access makes all accesses depend on each other. It is relaxed, so it orders nothing by
//! itself; next to a fence it could, so models of fences turn it off.

use loom::sync::atomic::Ordering;

struct Clock {
    ticks: loom::sync::atomic::AtomicU64,
    /// Not modelled: set once, before the first thread is started.
    off: std::sync::atomic::AtomicBool,
}

loom::lazy_static! {
    // Made anew for every execution.
    static ref CLOCK: Clock = Clock {
        ticks: loom::sync::atomic::AtomicU64::new(0),
        off: std::sync::atomic::AtomicBool::new(false),
    };
}

/// Makes the clock of this execution, before any thread could race for it; `off`: accesses do not tick.
pub(crate) fn start_clock(off: bool) {
    CLOCK.off.store(off, std::sync::atomic::Ordering::Relaxed);
}

fn tick() {
    if !CLOCK.off.load(std::sync::atomic::Ordering::Relaxed) {
        CLOCK.ticks.fetch_add(1, Ordering::Relaxed);
    }
}

macro_rules! ticking {
    ($($name:ident: $int:ty;)*) => {$(
        /// loom's atomic, ticking before every access.
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl $name {
            pub(crate) fn new(value: $int) -> $name {
                $name(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $int {
                tick();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $int, order: Ordering) {
                tick();
                self.0.store(value, order);
            }

            pub(crate) fn fetch_add(&self, value: $int, order: Ordering) -> $int {
                tick();
                self.0.fetch_add(value, order)
            }

            pub(crate) fn compare_exchange(
                &self, current: $int, new: $int, success: Ordering, failure: Ordering,
            ) -> Result<$int, $int> {
                tick();
                self.0.compare_exchange(current, new, success, failure)
            }
        }
    )*};
}

ticking! {
    AtomicU32: u32;
    AtomicU64: u64;
}
