//! `Loan`: shared memory that is filled and then published.
//!
//! numpy has no array that can be taken away again. So that nobody writes into what has been published, every array handed out
//! is a view of a root array that only the loan knows: each array and each slice of one is a reference to the root. Such
//! references refuse the sending. The one exception is the array of a `with` block, whose variable outlives the block: it
//! becomes read-only.

use crate::error::{AlreadySentError, ClosedError, WritableViewError, forked};
use crate::frame::{Memory, references};
use crate::numpy;
use crate::out::{Description, Item, Out};
use crate::output::Output;
use crate::stamp::Wish;
use millpond_shm::{Buffer, BufferMut};
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
    sink: Sink,
    /// `None`: the timestamp is what the buffer has, or what the sink says.
    wish: Option<Wish>,
    /// The buffer has no number yet.
    is_new: bool,
}

/// Where a loan goes when its `with` block is left.
pub(crate) enum Sink {
    Port(Py<Output>),
    Block(Py<Out>),
}

enum State {
    Filling {
        memory: Py<Memory>,
        /// Over the memory; known to nobody else.
        root: Py<PyAny>,
        /// A view of `root`: what the variable of the `with` block refers to.
        array: Option<Py<PyAny>>,
    },
    /// Memory of this process, in a block that could have no buffer.
    Private(Py<PyAny>),
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
        sink: Sink,
        buffer: BufferMut,
        wish: Option<Wish>,
        is_new: bool,
    ) -> PyResult<Loan> {
        let (dtype, shape) = (buffer.dtype(), buffer.shape());
        let pond = match &sink {
            Sink::Port(output) => Some(output.get().pond()?),
            Sink::Block(_) => None,
        };
        let memory = Py::new(py, Memory::writable(buffer, pond))?;
        let root = numpy::array(py, dtype, &shape, memory.bind(py))?;
        let state = State::Filling { memory, root: root.unbind(), array: None };
        Ok(Loan { state: Mutex::new(state), sink, wish, is_new })
    }

    /// A loan of memory that is not shared.
    pub(crate) fn private(sink: Sink, array: Bound<'_, PyAny>, wish: Option<Wish>) -> Loan {
        Loan { state: Mutex::new(State::Private(array.unbind())), sink, wish, is_new: true }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies an array of the loan's shape into it.
    pub(crate) fn fill(&self, py: Python<'_>, from: &Bound<'_, PyAny>) -> PyResult<()> {
        let array = self.array(py)?;
        numpy::copy(&array, from)
    }

    /// Publishes on `output`. If that fails for want of room, the loan can be sent again.
    pub(crate) fn publish(
        &self,
        py: Python<'_>,
        output: &Output,
        wish: Option<Wish>,
        timeout: Option<Duration>,
    ) -> PyResult<()> {
        let (buffer, lasting) = self.complete(py, wish, |wish| output.describe(wish))?;
        output.publish(py, buffer, timeout, || lasting.seal(py)).map_err(|(error, buffer)| {
            buffer.into_iter().for_each(|buffer| *self.state() = State::Refused(buffer));
            error
        })
    }

    /// Sends in a block. There it always fits: what there is no room for waits.
    pub(crate) fn send_in(&self, py: Python<'_>, out: &Out, wish: Option<Wish>) -> PyResult<()> {
        let private = match &mut *self.state() {
            state @ State::Private(_) => match std::mem::replace(state, State::Sent) {
                State::Private(array) => Some(array),
                _ => None,
            },
            _ => None,
        };
        let item = match private {
            Some(array) => {
                // Whoever still has it must not change what is about to be sent.
                array.bind(py).getattr("flags")?.setattr("writeable", false)?;
                Item::Array(array, out.describe(wish.or(self.wish)))
            }
            None => {
                let (buffer, lasting) = self.complete(py, wish, |wish| Ok(out.describe(wish)))?;
                lasting.seal(py)?;
                Item::Buffer(buffer)
            }
        };
        out.push(item);
        Ok(())
    }

    /// The buffer as it is to be published, and what has to be sealed before anybody else runs.
    fn complete(
        &self,
        py: Python<'_>,
        wish: Option<Wish>,
        describe: impl FnOnce(Option<Wish>) -> PyResult<Description>,
    ) -> PyResult<(Buffer, Lasting)> {
        let mut state = self.state();
        if let State::Filling { memory, root, array } = &*state {
            memory.get().with_writable(refuse_forked).unwrap_or_else(|| Err(over(&State::Sent)))?;
            refuse_writable_views(py, root, array.as_ref())?;
            let wish = wish.or(self.wish);
            let described = memory.get().with_writable(|buffer| {
                if self.is_new || wish.is_some() {
                    let description = describe(wish)?;
                    buffer.set_timestamp(description.stamp);
                    if self.is_new {
                        buffer.set_sequence(description.sequence);
                    }
                }
                Ok(())
            });
            described.unwrap_or_else(|| Err(over(&State::Sent)))?;
        }
        match std::mem::replace(&mut *state, State::Sent) {
            State::Filling { memory, root, array } => {
                let lasting = match array.filter(|array| references(array, py) > 1) {
                    Some(array) => Lasting(Some((root, array))),
                    None => {
                        drop(root);
                        Lasting(None)
                    }
                };
                Ok((Memory::take(memory, py).ok_or_else(|| over(&State::Sent))?, lasting))
            }
            State::Refused(buffer) => Ok((buffer, Lasting(None))),
            other => {
                let error = over(&other);
                *state = other;
                Err(error)
            }
        }
    }
}

/// The array of a `with` block and its root, if the block's variable still has them.
#[must_use]
struct Lasting(Option<(Py<PyAny>, Py<PyAny>)>);

impl Lasting {
    /// Makes them read-only. It costs more than the publishing, so it comes after it where the GIL is held from one to the other: no
    /// Python runs in between.
    fn seal(&self, py: Python<'_>) -> PyResult<()> {
        let Some((root, array)) = &self.0 else { return Ok(()) };
        // The root as well: what numpy lets an array become depends on what it is a view of.
        for array in [root, array] {
            array.bind(py).getattr("flags")?.setattr("writeable", false)?;
        }
        Ok(())
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

/// # Errors
/// `ForkedError` in a forked child, which has only a copy of the contents.
fn refuse_forked(buffer: &mut BufferMut) -> PyResult<()> {
    buffer.as_mut_slice::<u8>().map(drop).map_err(|_| forked())
}

fn over(state: &State) -> PyErr {
    match state {
        State::Discarded => ClosedError::new_err("the loan has been discarded; take another one"),
        State::Refused(_) => ClosedError::new_err("the loan is complete; it can only be sent again"),
        State::Private(_) => ClosedError::new_err("the loan belongs to a block: send it there"),
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
            State::Filling { memory, root, .. } => {
                memory.get().with_writable(refuse_forked).unwrap_or_else(|| Err(over(&State::Sent)))?;
                root.bind(py).call_method0("view")
            }
            State::Private(array) => Ok(array.bind(py).clone()),
            state => Err(over(state)),
        }
    }

    /// Gives the buffer back unsent, once no view of it is left.
    fn discard(&self) -> PyResult<()> {
        let mut state = self.state();
        match &*state {
            State::Sent => Err(over(&state)),
            State::Filling { .. } | State::Private(_) | State::Refused(_) | State::Discarded => {
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
        let filling = matches!(&*self.state(), State::Filling { .. } | State::Private(_));
        match (filling, exc_type) {
            (false, _) => Ok(()), // sent or discarded inside the block
            (true, Some(_)) => self.discard(),
            (true, None) => {
                let sent = match &self.sink {
                    Sink::Port(output) => self.publish(py, output.get(), None, None),
                    Sink::Block(out) => self.send_in(py, out.get(), None),
                };
                sent.inspect_err(|_| {
                    let _ = self.discard();
                })
            }
        }
    }

    fn __repr__(&self) -> &'static str {
        match &*self.state() {
            State::Filling { .. } | State::Private(_) => "<millpond.Loan (being filled)>",
            State::Refused(_) => "<millpond.Loan (filled)>",
            State::Sent => "<millpond.Loan (sent)>",
            State::Discarded => "<millpond.Loan (discarded)>",
        }
    }
}
