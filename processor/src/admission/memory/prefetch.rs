//! Memory is asked for before it is needed.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the standard library has no safe way to it")
)]

/// Asks the core to bring an element into its cache, and does not wait for it.
#[cfg(target_arch = "x86_64")]
pub(super) fn prefetch<T: Copy>(all: &[T], at: usize) {
    use std::{
        arch::x86_64::{_MM_HINT_T0, _mm_prefetch},
        ptr,
    };
    if let Some(element) = all.get(at) {
        // SAFETY: every such processor has it, and it is a hint: it reads nothing that can be seen.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(element).cast()) };
    }
}

/// Reads it: a core goes on while it waits for some of these together.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn prefetch<T: Copy>(all: &[T], at: usize) {
    std::hint::black_box(all.get(at).copied());
}
