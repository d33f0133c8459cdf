//! Taking a buffer and giving it back unsent.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::message::{self, Role};
use super::parent::Parent;
use super::timing::{BATCH, WARM_UP};
use crate::library::{Library, Sender, Shape};

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Words in a payload.
    pub(super) words: usize,
    /// How long to measure.
    pub(super) time: Duration,
}

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Cycle {
    ns_per_cycle: f64,
    cycles: u64,
}

/// Measures in a child process.
pub(super) fn measure<L: Library>(plan: Plan) -> Result<Cycle> {
    let mut parent = Parent::<L>::new(plan.time, &shape::<L>(plan), 1)?;
    parent.start(Role::Loan(plan), None)?;
    let result = parent.finish()?.into_iter().next().context("the result is missing")?;
    message::result(result)
}

fn shape<L: Library>(plan: Plan) -> Shape {
    Shape::pair(plan.words, 1, L::WAIT)
}

/// Takes and gives back. There is no receiver, so the library has none to look for returned buffers at.
pub(super) fn loan<L: Library>(place: &str, plan: Plan) -> Result<Cycle> {
    let library = L::join(place)?;
    let mut sender = library.sender("alloc", &shape::<L>(plan))?;
    let mut batch = || -> Result<()> {
        for _ in 0..BATCH {
            sender.take()?;
        }
        Ok(())
    };

    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        batch()?;
    }
    let start = Instant::now();
    let mut cycles = 0;
    while start.elapsed() < plan.time {
        batch()?;
        cycles += BATCH;
    }
    Ok(Cycle { ns_per_cycle: start.elapsed().as_secs_f64() * 1e9 / cycles as f64, cycles })
}
