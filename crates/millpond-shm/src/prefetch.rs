//! Asking for a cache line before it is needed.

#![allow(unsafe_code)]

/// Fetches the first line of `target` for writing: it then leaves the other core's cache in one transfer instead of two.
#[inline(always)]
pub(crate) fn for_writing<T>(target: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: PREFETCHW changes no register, flag or memory, never faults, and is a no-operation on CPUs without it.
    unsafe {
        std::arch::asm!(
            "prefetchw [{}]",
            in(reg) std::ptr::from_ref(target),
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = target;
}
