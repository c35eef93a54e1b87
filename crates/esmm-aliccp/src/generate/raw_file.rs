//! A file that is written piece by piece, plain or packed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::AliCcpError;

/// A raw file that is being written, plain or packed. Dropped before its end it is removed.
pub(super) struct RawFile<'a> {
    path: &'a Path,
    stream: Option<Box<dyn Finish>>,
}

trait Finish: Write {
    fn finish(self: Box<Self>) -> std::io::Result<()>;
}

impl Finish for BufWriter<File> {
    fn finish(mut self: Box<Self>) -> std::io::Result<()> {
        self.flush()
    }
}

impl Finish for GzEncoder<BufWriter<File>> {
    fn finish(self: Box<Self>) -> std::io::Result<()> {
        (*self).finish()?.flush()
    }
}

impl<'a> RawFile<'a> {
    pub(super) fn create(path: &'a Path, gzip: bool) -> Result<Self, AliCcpError> {
        let file = File::create(path).map_err(|error| AliCcpError::io(path, &error))?;
        let buffered = BufWriter::with_capacity(1 << 20, file);
        let stream: Box<dyn Finish> = match gzip {
            true => Box::new(GzEncoder::new(buffered, Compression::fast())),
            false => Box::new(buffered),
        };
        Ok(Self { path, stream: Some(stream) })
    }

    pub(super) fn write(&mut self, bytes: Option<Vec<u8>>) -> Result<(), AliCcpError> {
        let (Some(stream), Some(bytes)) = (&mut self.stream, bytes) else {
            return Ok(());
        };
        stream.write_all(&bytes).map_err(|error| AliCcpError::io(self.path, &error))
    }

    pub(super) fn finish(mut self) -> Result<(), AliCcpError> {
        let finished = self.stream.take().map_or(Ok(()), Finish::finish);
        finished.map_err(|error| AliCcpError::io(self.path, &error))
    }
}

impl Drop for RawFile<'_> {
    fn drop(&mut self) {
        if self.stream.is_some() {
            // What cannot be removed must not hide the error.
            let _ = std::fs::remove_file(self.path);
        }
    }
}
