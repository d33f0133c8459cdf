//! The operating system's side: memory, processes, futexes. The only module that talks to the kernel.

pub(crate) mod barrier;
pub(crate) mod fork;
pub(crate) mod fork_copies;
pub(crate) mod futex;
pub(crate) mod memory;
pub(crate) mod process;
pub(crate) mod time;
