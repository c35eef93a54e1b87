//! A file that is written piece by piece, plain or packed.

use std::io::{self, BufWriter, IntoInnerError, Write};
use std::path::Path;

use esmm_files::NewFile;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::error::AliCcpError;

/// A raw file that is being written, plain or packed; it appears when it is finished.
pub(super) struct RawFile<'a> {
    path: &'a Path,
    stream: Box<dyn Finish>,
}

trait Finish: Write {
    /// The file with all that was written.
    fn finish(self: Box<Self>) -> io::Result<NewFile>;
}

impl Finish for BufWriter<NewFile> {
    fn finish(self: Box<Self>) -> io::Result<NewFile> {
        (*self).into_inner().map_err(IntoInnerError::into_error)
    }
}

impl Finish for GzEncoder<BufWriter<NewFile>> {
    fn finish(self: Box<Self>) -> io::Result<NewFile> {
        Box::new((*self).finish()?).finish()
    }
}

impl<'a> RawFile<'a> {
    pub(super) fn create(path: &'a Path, gzip: bool) -> Result<Self, AliCcpError> {
        let file = NewFile::beside(path).map_err(|error| AliCcpError::io(path, &error))?;
        let buffered = BufWriter::with_capacity(1 << 20, file);
        let stream: Box<dyn Finish> = match gzip {
            true => Box::new(GzEncoder::new(buffered, Compression::fast())),
            false => Box::new(buffered),
        };
        Ok(Self { path, stream })
    }

    pub(super) fn write(&mut self, bytes: Option<Vec<u8>>) -> Result<(), AliCcpError> {
        let Some(bytes) = bytes else { return Ok(()) };
        self.stream.write_all(&bytes).map_err(|error| AliCcpError::io(self.path, &error))
    }

    pub(super) fn finish(self) -> Result<(), AliCcpError> {
        let finished = self.stream.finish().and_then(NewFile::finish);
        finished.map_err(|error| AliCcpError::io(self.path, &error))
    }
}
