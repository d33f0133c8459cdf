//! The aligner behind the block, as its parameters say.

use super::super::timed_inputs::{TimedInputs, each, ns};
use crate::align::{Aligner, Approximate, Config, Exact, Grid, Linear, Nearest};
use crate::prelude::*;

/// The aligner with one of the policies.
pub(super) enum Engine {
    Exact(Aligner<Buffer, Exact<Buffer>>),
    Nearest(Aligner<Buffer, Nearest<Buffer>>),
    Linear(Aligner<Buffer, Linear<Buffer>>),
    Approximate(Aligner<Buffer, Approximate<Buffer>>),
}

macro_rules! with_engine {
    ($engine:expr, $aligner:ident => $body:expr) => {
        match $engine {
            Engine::Exact($aligner) => $body,
            Engine::Nearest($aligner) => $body,
            Engine::Linear($aligner) => $body,
            Engine::Approximate($aligner) => $body,
        }
    };
}

/// How the inputs are treated: what they have in common, and each one's tolerance, as the policy counts it.
pub(super) fn config(inputs: &mut TimedInputs, params: &Params) -> Config {
    let mut config = Config { emit_partial: params.get("emit_partial"), ..inputs.config(params) };
    let tolerance = match params.get::<String>("policy").as_str() {
        "nearest" => "max_distance_ms",
        "linear" => "max_gap_ms",
        "approximate" => return config,
        _ => "tolerance_ms",
    };
    let tolerances = each(params, tolerance, config.ports.len());
    for (port, tolerance) in config.ports.iter_mut().zip(tolerances) {
        port.tolerance_ns = tolerance.map(ns);
    }
    config
}

/// What `approximate` allows: the age penalty in permille, and the extent of a set.
pub(super) fn limits(params: &Params) -> (u32, Option<u64>) {
    let age_penalty: f64 = params.get("age_penalty");
    ((age_penalty * 1000.0).round() as u32, params.get::<Option<f64>>("max_interval_ms").map(ns))
}

/// The aligner with the policy that the parameters name.
pub(super) fn engine(params: &Params, reference: usize, config: Config) -> Engine {
    let policy: String = params.get("policy");
    match policy.as_str() {
        "nearest" => {
            let policy = Nearest::new(reference, None);
            let policy = if params.get("consume") { policy.consuming() } else { policy };
            Engine::Nearest(Aligner::new(policy, config))
        }
        "linear" => {
            let policy = match params.get::<Option<u32>>("rate_hz") {
                Some(rate_num) => Linear::onto_grid(Grid { origin_ns: 0, rate_num, rate_den: 1 }, None),
                None => Linear::onto_reference(reference, None),
            };
            Engine::Linear(Aligner::new(policy, config))
        }
        "approximate" => {
            let (age_penalty_permille, max_interval_ns) = limits(params);
            let least = each(params, "lower_bounds_ms", config.ports.len());
            let lower_bounds_ns = least.into_iter().map(|ms| ms.map_or(0, ns)).collect();
            let mut policy = Approximate::new(age_penalty_permille).lower_bounds_ns(lower_bounds_ns);
            policy.set_limits(age_penalty_permille, max_interval_ns);
            Engine::Approximate(Aligner::new(policy, config))
        }
        _ => Engine::Exact(Aligner::new(Exact::new(0), config)),
    }
}

pub(super) use with_engine;
