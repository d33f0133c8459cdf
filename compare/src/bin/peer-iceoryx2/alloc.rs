//! Taking a sample and giving it back unsent.

use std::hint;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::arena::ArenaName;
use crate::message::{self, Role};
use crate::parent::Parent;
use crate::ports::{self, Shape};
use crate::timing::{BATCH, WARM_UP};

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Plan {
    /// Words in a payload.
    pub words: usize,
    /// How long to measure.
    pub time: Duration,
}

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cycle {
    ns_per_cycle: f64,
    cycles: u64,
}

/// Measures in a child process.
pub fn measure(plan: Plan) -> Result<Cycle> {
    let mut parent = Parent::new(plan.time)?;
    parent.start(Role::Loan(plan), None)?;
    let result = parent.finish()?.into_iter().next().context("the result is missing")?;
    message::result(result)
}

/// Takes and gives back. There is no subscriber, so iceoryx2 has none to look for returned samples at.
pub fn loan(arena: &ArenaName, plan: Plan) -> Result<Cycle> {
    let shape = Shape { words: plan.words, depth: 1, held: 1, subscribers: 1, overflow: false };
    let node = ports::node(arena)?;
    let publisher = ports::publisher(&ports::topic(&node, "alloc", shape)?, shape)?;
    let batch = || -> Result<()> {
        for _ in 0..BATCH {
            hint::black_box(ports::loan(&publisher, plan.words)?);
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
