//! The alignment engine over recorded timestamps.

use millpond::align::{Aligner, Approximate, Config, Exact, Members, Nearest, Policy, Poll, PortConfig};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Which of the recorded events belong together: for each set, the place of its event in every stream, -1 where there is none.
#[pyfunction]
pub(crate) fn _align(
    py: Python<'_>,
    streams: Vec<Vec<i64>>,
    policy: &str,
    tolerance_ns: Option<u64>,
    reference: usize,
) -> PyResult<Vec<Vec<i64>>> {
    let (count, most) = (streams.len(), 64);
    if count == 0 || count > most {
        return Err(PyValueError::new_err(format!("events: expected 1 to {most} streams, found {count}")));
    }
    if reference >= count {
        return Err(PyValueError::new_err(format!(
            "reference: expected 0 to {}, found {reference}",
            count - 1
        )));
    }
    // Room for all of a stream; two at least, or the engine could never compare.
    let depth = streams.iter().map(Vec::len).max().unwrap_or(0) + 2;
    let mut config = Config::of(count, PortConfig { depth, ..PortConfig::default() });
    py.detach(|| match policy {
        "exact" => Ok(sets(Aligner::new(Exact::new(tolerance_ns.unwrap_or(0)), config), &streams)),
        "nearest" => {
            for (port, config) in config.ports.iter_mut().enumerate() {
                config.optional = port != reference;
            }
            Ok(sets(Aligner::new(Nearest::new(reference, tolerance_ns), config), &streams))
        }
        "approximate" => {
            let policy = Approximate::new(100);
            let policy = tolerance_ns.map_or(policy, |most| Approximate::new(100).max_interval_ns(most));
            Ok(sets(Aligner::new(policy, config), &streams))
        }
        other => Err(PyValueError::new_err(format!(
            "policy: expected \"exact\", \"nearest\" or \"approximate\", found \"{other}\""
        ))),
    })
}

fn sets<P>(mut aligner: Aligner<i64, P>, streams: &[Vec<i64>]) -> Vec<Vec<i64>>
where
    P: for<'a> Policy<i64, Set<'a> = Members<'a, i64>> + 'static,
{
    for (port, stamps) in streams.iter().enumerate() {
        let mut order: Vec<usize> = (0..stamps.len()).collect();
        order.sort_by_key(|&i| stamps[i]);
        for i in order {
            // Of equal stamps in one stream the first counts; nothing can be late or find its port full.
            let _ = aligner.push(port, stamps[i], i as i64);
        }
        aligner.end(port);
    }
    let mut found = Vec::new();
    loop {
        match aligner.poll() {
            Poll::Set(set) => {
                found.push((0..streams.len()).map(|port| set.get(port).map_or(-1, |(_, i)| *i)).collect());
            }
            Poll::Waiting | Poll::Done => return found,
        }
    }
}
