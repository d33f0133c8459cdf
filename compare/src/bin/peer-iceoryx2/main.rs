//! Benchmarks iceoryx2 between processes, for the comparison with Millpond.

mod arena;
mod ports;

use std::process::ExitCode;

use millpond_compare::harness;

fn main() -> ExitCode {
    harness::main::<ports::Iceoryx2>()
}
