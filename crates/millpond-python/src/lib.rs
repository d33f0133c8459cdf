//! The native half of the Python package `millpond`: ponds, ports and frames. The other half, in Python, is in `python/millpond`.
//!
//! Only `frame` handles addresses. Nothing here keeps the GIL while it waits.

mod align;
mod block;
mod bus;
mod cell;
mod error;
mod flowgraph;
mod format;
mod frame;
mod input;
mod loan;
mod numpy;
mod out;
mod output;
mod pond;
mod stamp;
mod statistics;
mod wait;

use pyo3::prelude::*;

/// The native half of `millpond`.
#[pymodule]
fn _millpond(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<pond::Pond>()?;
    module.add_class::<input::Input>()?;
    module.add_class::<output::Output>()?;
    module.add_class::<loan::Loan>()?;
    module.add_class::<out::Out>()?;
    module.add_class::<bus::Subscription>()?;
    module.add_class::<flowgraph::_Builder>()?;
    module.add_class::<flowgraph::_Graph>()?;
    module.add_class::<flowgraph::_Run>()?;
    module.add_class::<frame::Frame>()?;
    module.add_class::<format::Format>()?;
    module.add_class::<stamp::Timestamp>()?;
    module.add_function(wrap_pyfunction!(pond::ponds, module)?)?;
    module.add_function(wrap_pyfunction!(pond::_close_all, module)?)?;
    module.add_function(wrap_pyfunction!(block::_main, module)?)?;
    module.add_function(wrap_pyfunction!(align::_align, module)?)?;
    module.add_function(wrap_pyfunction!(align::_align_linear, module)?)?;
    module.add_function(wrap_pyfunction!(align::_align_window, module)?)?;
    module.add_function(wrap_pyfunction!(block::_log, module)?)?;
    module.add_function(wrap_pyfunction!(block::_check_spec, module)?)?;
    module.add_function(wrap_pyfunction!(numpy::_dtype_name, module)?)?;
    error::add_to(module)?;
    // Before the interpreter takes its modules apart: streams then end in order, and the pond is left.
    let close = module.getattr("_close_all")?;
    module.py().import("atexit")?.call_method1("register", (close,))?;
    Ok(())
}
