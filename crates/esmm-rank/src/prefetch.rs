//! Rows that are needed soon, asked for ahead of their use: tables and catalogues are larger than the caches.

#![allow(unsafe_code, reason = "the processor's prefetch is an intrinsic on a pointer")]

use std::ops::Range;

use crate::aligned::LINE;

/// The memory that the next candidates read, asked for line by line while the present ones are computed.
///
/// A processor has room for some twenty lines under way. What is asked for at once waits for that room; spread over the
/// computation of a block it costs next to nothing.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// Address of the first line, and how many lines.
    ranges: Vec<(usize, usize)>,
    /// The next line: its range, and its place there.
    range: usize,
    line: usize,
    /// Lines of all ranges.
    lines: u64,
    /// Work during which they are asked for, and what of it, times the lines, is not yet matched by lines.
    work: u64,
    credit: u64,
}

impl Ahead {
    /// Forgets everything; what is pushed next is spread over so much work.
    #[inline(always)]
    pub(crate) fn begin(&mut self, work: u64) {
        self.ranges.clear();
        self.range = 0;
        self.line = 0;
        self.lines = 0;
        self.work = work.max(1);
        self.credit = 0;
    }

    /// Adds `values[range]`; nothing where there is no such range.
    #[inline(always)]
    pub(crate) fn push<T>(&mut self, values: &[T], range: Range<usize>) {
        let Some(values) = values.get(range) else { return };
        let bytes = values.as_ptr_range();
        let first = bytes.start as usize / LINE;
        let end = (bytes.end as usize).div_ceil(LINE);
        if first < end {
            self.ranges.push((first * LINE, end - first));
            self.lines += (end - first) as u64;
        }
    }

    /// Asks for as many lines as belong to this share of the work.
    #[inline(always)]
    pub(crate) fn after(&mut self, work: u64) {
        self.credit += work * self.lines;
        while self.credit >= self.work {
            self.credit -= self.work;
            if !self.ask() {
                self.credit = 0;
                return;
            }
        }
    }

    /// Asks for all lines that are left.
    #[inline(always)]
    pub(crate) fn rest(&mut self) {
        while self.ask() {}
    }

    /// Asks for the next line; `false` where there is none.
    #[inline(always)]
    fn ask(&mut self) -> bool {
        let Some((address, lines)) = self.ranges.get(self.range) else { return false };
        prefetch(address + self.line * LINE);
        self.line += 1;
        if self.line == *lines {
            self.line = 0;
            self.range += 1;
        }
        true
    }
}

/// Asks for the cache line where a value begins.
#[inline(always)]
pub(crate) fn prefetch_value<T>(value: &T) {
    prefetch(std::ptr::from_ref(value) as usize);
}

/// Asks for the cache line at an address. A hint: it changes nothing but the time that a later read takes, whatever the
/// address, and does nothing on processors other than x86-64.
#[inline(always)]
fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see, and addresses that are none are ignored.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aligned::Aligned;

    fn asked(ahead: &Ahead) -> usize {
        ahead.ranges[..ahead.range].iter().map(|(_, lines)| lines).sum::<usize>() + ahead.line
    }

    #[test]
    fn lines_are_spread_evenly_over_the_work() {
        let values = Aligned::<f32>::zeros(1000);
        let mut ahead = Ahead::default();
        ahead.begin(100);
        ahead.push(&values, 0..16);
        // From the middle of a line to that of the next but one.
        ahead.push(&values, 24..56);
        ahead.push(&values, 64..64);
        ahead.push(&values, 990..2000);
        ahead.push(&values, 0..96);
        assert_eq!(ahead.lines, 1 + 3 + 6);
        for done in 1..=10 {
            ahead.after(10);
            assert_eq!(asked(&ahead), done);
        }
        ahead.after(1000);
        assert_eq!(asked(&ahead), 10);
        ahead.begin(0);
        ahead.push(&values, 0..32);
        ahead.rest();
        assert_eq!(asked(&ahead), 2);
    }
}
