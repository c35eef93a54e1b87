//! Memory that begins where a cache line does, in large pages where it is large: for what a request reads at random.

#![allow(unsafe_code, reason = "memory with an alignment of its own is allocated and freed by hand")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;
/// Bytes of a large page of x86-64 and of most others.
const PAGE: usize = 2 << 20;

/// A vector of numbers whose first one begins a cache line, with a capacity that does not grow.
///
/// From 2 MiB on it begins a large page too and asks the system for such pages. A table of 64 MiB takes 16,384 pages of 4 KiB,
/// more than a processor remembers the addresses of, and 32 large ones.
pub(crate) struct Aligned<T> {
    start: NonNull<T>,
    len: usize,
    capacity: usize,
}

impl<T: Copy> Aligned<T> {
    /// Nothing yet, with room for `capacity` values.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let Some(layout) = layout::<T>(capacity) else {
            return Self { start: NonNull::dangling(), len: 0, capacity };
        };
        // SAFETY: the layout is not empty.
        let Some(start) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        in_large_pages(start, layout);
        Self { start: start.cast(), len: 0, capacity }
    }

    /// The same value everywhere.
    pub(crate) fn filled(len: usize, value: T) -> Self {
        let mut filled = Self::with_capacity(len);
        for place in 0..len {
            // SAFETY: there is room for `len` values.
            unsafe { filled.start.add(place).write(value) };
        }
        filled.len = len;
        filled
    }

    /// A copy.
    pub(crate) fn copy_of(values: &[T]) -> Self {
        let mut copy = Self::with_capacity(values.len());
        copy.extend_from_slice(values);
        copy
    }

    /// How many more values there is room for.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.len
    }

    /// Appends values.
    ///
    /// # Panics
    /// When there is no room for them.
    pub(crate) fn extend_from_slice(&mut self, values: &[T]) {
        assert!(values.len() <= self.room(), "{} values, room for {}", values.len(), self.room());
        // SAFETY: there is room after the first `len` values, and `values` lies elsewhere, because `self` is borrowed alone.
        unsafe {
            self.start.add(self.len).copy_from_nonoverlapping(NonNull::from(values).cast(), values.len());
        };
        self.len += values.len();
    }
}

impl Aligned<f32> {
    /// All zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self::filled(len, 0.0)
    }

    /// Makes it at least so long; where it was shorter, it is all zeros then.
    pub(crate) fn at_least(&mut self, len: usize) {
        if self.len < len {
            *self = Self::zeros(len);
        }
    }
}

/// Where so many values lie; `None` of no bytes.
///
/// # Panics
/// When they are more than the address space holds.
fn layout<T>(capacity: usize) -> Option<Layout> {
    let bytes = capacity * size_of::<T>();
    if bytes == 0 {
        return None;
    }
    let align = if bytes < PAGE { LINE } else { PAGE };
    let Ok(layout) = Layout::from_size_align(bytes, align) else { panic!("{bytes} bytes are too many") };
    Some(layout)
}

/// Asks for large pages. A hint: where the system has none, it is as any other memory.
fn in_large_pages(start: NonNull<u8>, layout: Layout) {
    #[cfg(target_os = "linux")]
    if layout.align() == PAGE {
        // SAFETY: the range was allocated just now and begins a page; the advice changes no value.
        unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, layout);
}

impl<T> Drop for Aligned<T> {
    fn drop(&mut self) {
        if let Some(layout) = layout::<T>(self.capacity) {
            // SAFETY: it was allocated with this layout. The values are `Copy` and need no drop.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

// SAFETY: it owns its values, as a vector does.
unsafe impl<T: Send> Send for Aligned<T> {}
// SAFETY: what is shared of it is a slice.
unsafe impl<T: Sync> Sync for Aligned<T> {}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` values were written, and the pointer is aligned even if there are none.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> Default for Aligned<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T: Copy> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl<T> fmt::Debug for Aligned<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} values", self.len, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_lines_and_large_pages() {
        for (len, align) in [(1, LINE), (1000, LINE), (PAGE / 4, PAGE), (PAGE, PAGE)] {
            let values = Aligned::<f32>::zeros(len);
            assert_eq!(values.as_ptr() as usize % align, 0, "{len}");
            assert!(values.len() == len && values.iter().all(|value| *value == 0.0));
        }
        assert!(Aligned::<f32>::default().is_empty() && Aligned::<f32>::zeros(0).is_empty());
    }

    #[test]
    fn it_is_filled_up_to_its_capacity_and_copied() {
        let mut values = Aligned::with_capacity(5);
        values.extend_from_slice(&[1_u32, 2, 3]);
        values.extend_from_slice(&[4, 5]);
        assert_eq!((&values[..], values.room()), (&[1, 2, 3, 4, 5][..], 0));
        let copy = values.clone();
        values[0] = 9;
        assert_eq!((&values[..], &copy[..]), (&[9, 2, 3, 4, 5][..], &[1, 2, 3, 4, 5][..]));
        let mut floats = Aligned::copy_of(&[1.0, 2.0]);
        floats.at_least(1);
        assert_eq!(floats[..], [1.0, 2.0]);
        floats.at_least(3);
        assert_eq!(floats[..], [0.0; 3]);
    }

    #[test]
    #[should_panic(expected = "2 values, room for 1")]
    fn it_does_not_grow() {
        Aligned::with_capacity(1).extend_from_slice(&[1.0_f32, 2.0]);
    }
}
