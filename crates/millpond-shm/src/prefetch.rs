//! Asking for a cache line before it is needed.

#![allow(unsafe_code)]

use std::ptr::NonNull;

/// Fetches the first line of `target` for writing: it then leaves the other core's cache in one transfer instead of two.
#[inline(always)]
pub(crate) fn for_writing<T>(target: &T) {
    address_for_writing(NonNull::from(target).cast());
}

/// As [`for_writing`], by address.
#[inline(always)]
pub(crate) fn address_for_writing(address: NonNull<u8>) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: PREFETCHW changes no register, flag or memory, never faults whatever the address, and is a no-operation on CPUs
    // without it.
    unsafe {
        std::arch::asm!(
            "prefetchw [{}]",
            in(reg) address.as_ptr(),
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
