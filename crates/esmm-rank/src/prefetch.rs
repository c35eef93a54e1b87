//! Rows that are needed soon, asked for ahead of their use: tables and catalogues are larger than the caches.

#![allow(unsafe_code, reason = "the processor's prefetch is an intrinsic on a pointer")]

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for `values[range]` to be brought into the second-level cache. A hint: it changes nothing but the time that a later
/// read takes, and does nothing on processors other than x86-64.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T], range: std::ops::Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(values) = values.get(range) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let start = values.as_ptr().cast::<i8>();
        let size = size_of_val(values);
        let mut offset = 0;
        while offset < size {
            // SAFETY: the address lies within the slice, and a prefetch reads nothing that the program could see.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(start.add(offset)) };
            // To where the next line begins: rows need not begin where lines do.
            offset += LINE - (start as usize + offset) % LINE;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, range);
}
