//! The alignment engine over recorded timestamps.

use millpond::align::{
    Accumulate as _, Aligner, Approximate, Config, Exact, Grid, Linear, Members, Nearest, Neighbours, Policy,
    Poll, PortConfig, Pushed, Statistics, Window, interpolate,
};
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

/// A stream: the stamps and the values of its events.
type Stream = (Vec<i64>, Vec<f64>);

/// All events, in the order of their stamps, and the ends of all streams.
///
/// # Errors
/// `ValueError` for an event that the engine has no place for.
fn push_all<P>(aligner: &mut Aligner<f64, P>, streams: &[Stream]) -> PyResult<()>
where
    P: Policy<f64> + 'static,
{
    for (port, (stamps, values)) in streams.iter().enumerate() {
        if stamps.len() != values.len() {
            return Err(PyValueError::new_err(format!(
                "stream {port}: expected a value for each of the {} timestamps, found {}",
                stamps.len(),
                values.len()
            )));
        }
        let mut order: Vec<usize> = (0..stamps.len()).collect();
        order.sort_by_key(|&i| stamps[i]);
        for i in order {
            if !matches!(aligner.push(port, stamps[i], values[i]), Pushed::Held) {
                return Err(PyValueError::new_err(format!(
                    "stream {port}: expected different timestamps, found {} twice",
                    stamps[i]
                )));
            }
        }
        aligner.end(port);
    }
    Ok(())
}

fn config_for(streams: &[Stream]) -> PyResult<Config> {
    let (count, most) = (streams.len(), 64);
    if count == 0 || count > most {
        return Err(PyValueError::new_err(format!("expected 1 to {most} streams, found {count}")));
    }
    let depth = streams.iter().map(|(stamps, _)| stamps.len()).max().unwrap_or(0) + 2;
    Ok(Config::of(count, PortConfig { depth, ..PortConfig::default() }))
}

/// Values at common moments: those of a reference stream, or of a grid (origin in ns, rate in Hz as a fraction).
#[pyfunction]
pub(crate) fn _align_linear(
    py: Python<'_>,
    streams: Vec<Stream>,
    reference: usize,
    grid: Option<(i64, u32, u32)>,
    max_gap_ns: Option<u64>,
) -> PyResult<(Vec<i64>, Vec<Vec<f64>>)> {
    let config = config_for(&streams)?;
    let policy = match grid {
        Some((_, 0, _) | (_, _, 0)) => {
            return Err(PyValueError::new_err("rate_hz: expected a rate above 0"));
        }
        Some((origin_ns, rate_num, rate_den)) => {
            Linear::onto_grid(Grid { origin_ns, rate_num, rate_den }, max_gap_ns)
        }
        None if reference >= streams.len() => {
            let last = streams.len() - 1;
            return Err(PyValueError::new_err(format!("reference: expected 0 to {last}, found {reference}")));
        }
        None => Linear::onto_reference(reference, max_gap_ns),
    };
    py.detach(|| {
        let mut aligner = Aligner::new(policy, config);
        push_all(&mut aligner, &streams)?;
        let (mut moments, mut rows) = (Vec::new(), Vec::new());
        while let Poll::Set(row) = aligner.poll() {
            moments.push(row.stamp_ns());
            let value = |port| match row.neighbours(port) {
                Neighbours::Missing => f64::NAN,
                Neighbours::Exact(value) => *value,
                Neighbours::Between { before, after, offset_ns, gap_ns } => {
                    interpolate(*before, *after, offset_ns, gap_ns)
                }
            };
            rows.push((0..row.len()).map(value).collect());
        }
        Ok((moments, rows))
    })
}

/// For each window its start, and of each stream: count, sum, smallest, largest, last.
type Windows = (Vec<i64>, Vec<Vec<(u64, f64, f64, f64, f64)>>);

/// Statistics over spans of time.
#[pyfunction]
pub(crate) fn _align_window(
    py: Python<'_>,
    streams: Vec<Stream>,
    size_ns: i64,
    slide_ns: i64,
    origin_ns: i64,
) -> PyResult<Windows> {
    let config = config_for(&streams)?;
    if size_ns <= 0 || slide_ns <= 0 {
        return Err(PyValueError::new_err("size_ns, slide_ns: expected more than 0"));
    }
    py.detach(|| {
        let policy = Window::new(size_ns, slide_ns, origin_ns, Statistics::default());
        let mut aligner = Aligner::new(policy, config);
        push_all(&mut aligner, &streams)?;
        let (mut starts, mut windows) = (Vec::new(), Vec::new());
        while let Poll::Set(pane) = aligner.poll() {
            starts.push(pane.start_ns());
            let statistics = |port| {
                let s = pane.port(port).copied().unwrap_or_default();
                (s.count(), s.sum(), s.min(), s.max(), s.last())
            };
            windows.push((0..streams.len()).map(statistics).collect());
        }
        Ok((starts, windows))
    })
}
