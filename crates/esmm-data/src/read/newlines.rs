//! Remembers where the line feeds of a stream are, so that records get exact line numbers.
//!
//! A CSV parser counts lines where it stands, which is between `\r` and `\n` in files from Windows, and before the empty
//! lines that it is about to skip.

use std::collections::VecDeque;
use std::io::{Read, Result as IoResult, Seek, SeekFrom};

/// A stream that knows the offsets of the line feeds which were read from it.
#[derive(Debug)]
pub(crate) struct Newlines<R> {
    inner: R,
    read: u64,
    passed: u64,
    ahead: VecDeque<u64>,
}

impl<R: Read> Newlines<R> {
    /// A stream at its start.
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, read: 0, passed: 0, ahead: VecDeque::new() }
    }

    /// Line feeds before an offset, which must not be smaller than in the call before.
    pub(crate) fn lines_before(&mut self, offset: u64) -> u64 {
        self.line_of_end(offset + 1) - 1
    }

    /// Counts on from a number of line feeds, after the stream was moved.
    pub(crate) fn set_lines_before(&mut self, lines: u64) {
        self.passed = lines;
    }

    /// The line, from 1, of the last byte before `end`, which must not be smaller than in the call before.
    pub(crate) fn line_of_end(&mut self, end: u64) -> u64 {
        while self.ahead.front().is_some_and(|offset| offset + 1 < end) {
            self.ahead.pop_front();
            self.passed += 1;
        }
        self.passed + 1
    }
}

impl<R: Read> Read for Newlines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let count = self.inner.read(buffer)?;
        let found = memchr::memchr_iter(b'\n', &buffer[..count]);
        self.ahead.extend(found.map(|index| self.read + index as u64));
        self.read += count as u64;
        Ok(count)
    }
}

impl<R: Seek> Seek for Newlines<R> {
    /// [`set_lines_before`](Newlines::set_lines_before) must follow.
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        self.read = self.inner.seek(to)?;
        self.ahead.clear();
        Ok(self.read)
    }
}
