//! `Loan`: shared memory that is filled and then published.
//!
//! numpy has no array that can be taken away again. So that nobody writes into what has been published, every array handed out
//! is a view of a root array that only the loan knows: each array and each slice of one is a reference to the root. Such
//! references refuse the sending. The one exception is the array of a `with` block, whose variable outlives the block: it
//! becomes read-only.

use crate::error::{AlreadySentError, ClosedError, WritableViewError, forked};
use crate::frame::{Memory, references};
use crate::numpy;
use crate::output::Output;
use crate::stamp::Wish;
use millpond_shm::{Buffer, BufferMut, DType};
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A buffer of shared memory to be filled and published; made by `Output.loan`.
///
/// As a context manager it gives the array, publishes on leaving and discards on an exception. After publishing that array is
/// read-only and stays valid; until it is gone, the next process in line copies before changing anything in place. No other
/// writable view may be alive then, or `WritableViewError` is raised and nothing is published. What other libraries made of
/// the array of a `with` block (`torch.from_numpy`) cannot be seen: let go of it before.
#[pyclass(module = "millpond", frozen)]
pub(crate) struct Loan {
    state: Mutex<State>,
    output: Py<Output>,
    wish: Wish,
}

enum State {
    Filling {
        memory: Py<Memory>,
        /// Over the memory; known to nobody else.
        root: Py<PyAny>,
        /// A view of `root`: what the variable of the `with` block refers to.
        array: Option<Py<PyAny>>,
    },
    /// Complete, but there was no room for it yet.
    Refused(Buffer),
    Sent,
    Discarded,
}

/// References to the array: the loan's, and that of the variable of the `with` block.
const ARRAY_REFERENCES: isize = 2;

impl Loan {
    pub(crate) fn new(
        py: Python<'_>,
        output: Py<Output>,
        buffer: BufferMut,
        dtype: DType,
        shape: &[u32],
        wish: Wish,
    ) -> PyResult<Loan> {
        let memory = Py::new(py, Memory::writable(buffer, Some(output.get().pond()?)))?;
        let root = numpy::array(py, dtype, shape, memory.bind(py))?;
        let state = State::Filling { memory, root: root.unbind(), array: None };
        Ok(Loan { state: Mutex::new(state), output, wish })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies an array of the loan's shape into it.
    pub(crate) fn fill(&self, py: Python<'_>, from: &Bound<'_, PyAny>) -> PyResult<()> {
        let array = self.array(py)?;
        py.import("numpy")?.call_method1("copyto", (array, from)).map(drop)
    }

    /// Publishes on `output`. If that fails for want of room, the loan can be sent again.
    pub(crate) fn publish(
        &self,
        py: Python<'_>,
        output: &Output,
        wish: Option<Wish>,
        timeout: Option<Duration>,
    ) -> PyResult<()> {
        let buffer = self.complete(py, output, wish)?;
        output.publish(py, buffer, timeout).map_err(|(error, buffer)| {
            buffer.into_iter().for_each(|buffer| *self.state() = State::Refused(buffer));
            error
        })
    }

    /// The buffer as it is to be published, which nobody can write to any more.
    fn complete(&self, py: Python<'_>, output: &Output, wish: Option<Wish>) -> PyResult<Buffer> {
        let mut state = self.state();
        if let State::Filling { memory, root, array } = &*state {
            refuse_writable_views(py, root, array.as_ref())?;
            let described = memory.get().with_writable(|buffer| {
                // In a forked child the memory is not there.
                buffer.as_mut_slice::<u8>().map(drop).map_err(|_| forked())?;
                output.describe(buffer, wish.unwrap_or(self.wish))
            });
            described.unwrap_or_else(|| Err(over(&State::Sent)))?;
        }
        match std::mem::replace(&mut *state, State::Sent) {
            State::Filling { memory, root, array } => {
                if let Some(array) = array.filter(|array| references(array, py) > 1) {
                    // The root as well: what numpy lets an array become depends on what it is a view of.
                    for array in [&root, &array] {
                        array.bind(py).getattr("flags")?.setattr("writeable", false)?;
                    }
                }
                drop(root);
                Memory::take(memory, py).ok_or_else(|| over(&State::Sent))
            }
            State::Refused(buffer) => Ok(buffer),
            other => {
                let error = over(&other);
                *state = other;
                Err(error)
            }
        }
    }
}

/// # Errors
/// `WritableViewError` if anything but the array itself can still write to the memory.
fn refuse_writable_views(py: Python<'_>, root: &Py<PyAny>, array: Option<&Py<PyAny>>) -> PyResult<()> {
    let views = references(root, py) - 1 - isize::from(array.is_some());
    if views > 0 {
        return Err(WritableViewError::new_err(format!(
            "not sent: {views} writable view(s) of the loan are alive (arrays, slices); delete them first, or send a copy"
        )));
    }
    // More references than usual: other variables, which do no harm, or memoryviews, which do. Looking costs milliseconds.
    if let Some(array) = array.filter(|array| references(array, py) > ARRAY_REFERENCES) {
        let referrers = py.import("gc")?.call_method1("get_referrers", (array,))?;
        for referrer in referrers.try_iter()? {
            if referrer?.get_type().name()? == "managedbuffer" {
                return Err(WritableViewError::new_err(
                    "not sent: a memoryview of the loan is alive; release it first, or send a copy",
                ));
            }
        }
    }
    Ok(())
}

fn over(state: &State) -> PyErr {
    match state {
        State::Discarded => ClosedError::new_err("the loan has been discarded; take another one"),
        State::Refused(_) => ClosedError::new_err("the loan is complete; it can only be sent again"),
        State::Filling { .. } | State::Sent => {
            AlreadySentError::new_err("the loan has been sent already; take another one")
        }
    }
}

#[pymethods]
impl Loan {
    /// The array to be filled. Let go of it before sending the loan: `loan.array[:] = 1; port.send(loan)`.
    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match &*self.state() {
            State::Filling { root, .. } => root.bind(py).call_method0("view"),
            state => Err(over(state)),
        }
    }

    /// Gives the buffer back unsent, once no view of it is left.
    fn discard(&self) -> PyResult<()> {
        let mut state = self.state();
        match &*state {
            State::Sent => Err(over(&state)),
            State::Filling { .. } | State::Refused(_) | State::Discarded => {
                *state = State::Discarded;
                Ok(())
            }
        }
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let view = self.array(py)?;
        if let State::Filling { array, .. } = &mut *self.state() {
            *array = Some(view.clone().unbind());
        }
        Ok(view)
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<Bound<'_, PyAny>>,
        exc: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (exc, traceback);
        let filling = matches!(&*self.state(), State::Filling { .. });
        match (filling, exc_type) {
            (false, _) => Ok(()), // sent or discarded inside the block
            (true, Some(_)) => self.discard(),
            (true, None) => self.publish(py, self.output.get(), None, None).inspect_err(|_| {
                let _ = self.discard();
            }),
        }
    }

    fn __repr__(&self) -> &'static str {
        match &*self.state() {
            State::Filling { .. } => "<millpond.Loan (being filled)>",
            State::Refused(_) => "<millpond.Loan (filled)>",
            State::Sent => "<millpond.Loan (sent)>",
            State::Discarded => "<millpond.Loan (discarded)>",
        }
    }
}
