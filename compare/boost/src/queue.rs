//! A `message_queue`, as Rust has it. The C++ side is `queue.cpp`.
#![expect(unsafe_code, reason = "calls C++")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use anyhow::{Context, Result, bail, ensure};

unsafe extern "C" {
    safe fn queue_boost_version() -> *const c_char;
    fn queue_open(name: *const c_char, messages: usize, message_bytes: usize) -> *mut c_void;
    fn queue_close(queue: *mut c_void);
    fn queue_remove(name: *const c_char) -> bool;
    fn queue_send(queue: *mut c_void, message: *const c_void, bytes: usize) -> bool;
    fn queue_receive(queue: *mut c_void, message: *mut c_void, bytes: usize, wait: bool) -> c_int;
}

/// Boost's version.
pub fn version() -> String {
    // SAFETY: the C++ side returns a string literal.
    let text = unsafe { CStr::from_ptr(queue_boost_version()) };
    text.to_string_lossy().replace('_', ".")
}

/// Removes the queue of this name, if there is one.
pub fn remove(name: &str) {
    if let Ok(name) = CString::new(name) {
        // SAFETY: the name is a C string that lives as long as the call.
        unsafe { queue_remove(name.as_ptr()) };
    }
}

/// A queue whose messages all have the same size.
pub struct Queue {
    /// From `queue_open`, closed once, when this is dropped.
    queue: NonNull<c_void>,
    bytes: usize,
}

impl Queue {
    /// Opens or makes it.
    pub fn open(name: &str, messages: usize, bytes: usize) -> Result<Self> {
        let c_name = CString::new(name)?;
        // SAFETY: the name is a C string that lives as long as the call.
        let queue = unsafe { queue_open(c_name.as_ptr(), messages, bytes) };
        let queue = NonNull::new(queue).with_context(|| format!("Boost cannot open the queue {name}"))?;
        Ok(Self { queue, bytes })
    }

    /// Sends a copy, waiting for room.
    #[inline(always)]
    pub fn send(&self, message: &[u64]) -> Result<()> {
        ensure!(size_of_val(message) == self.bytes, "a message of another size");
        // SAFETY: the queue is open as long as `self` lives, and the message has as many bytes as are read.
        let sent = unsafe { queue_send(self.queue.as_ptr(), message.as_ptr().cast(), self.bytes) };
        ensure!(sent, "Boost cannot send");
        Ok(())
    }

    /// Receives a copy; `false`: there is none, and it was not to wait.
    #[inline(always)]
    pub fn receive(&self, message: &mut [u64], wait: bool) -> Result<bool> {
        ensure!(size_of_val(message) == self.bytes, "a message of another size");
        // SAFETY: the queue is open as long as `self` lives, and the message has room for as many bytes as are written.
        match unsafe { queue_receive(self.queue.as_ptr(), message.as_mut_ptr().cast(), self.bytes, wait) } {
            1 => Ok(true),
            0 => Ok(false),
            _ => bail!("Boost cannot receive"),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it came from `queue_open`, and nobody uses it any more.
        unsafe { queue_close(self.queue.as_ptr()) };
    }
}
