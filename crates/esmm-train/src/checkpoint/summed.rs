//! Files with a running checksum, written and read in one pass.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

/// Size and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSum {
    pub(super) bytes: u64,
    /// xxHash64, in hexadecimal digits.
    pub(super) xxh64: String,
}

/// A file, and the sum of what went through so far.
pub(super) struct Summed {
    file: File,
    hash: XxHash64,
    bytes: u64,
}

impl Summed {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::new(File::create(path)?))
    }

    fn new(file: File) -> Self {
        Self { file, hash: XxHash64::with_seed(0), bytes: 0 }
    }

    /// Opens a file that should have this sum.
    ///
    /// # Errors
    /// A file that cannot be read or has another size.
    pub(super) fn open(path: &Path, sum: &FileSum) -> Result<Self, String> {
        let file = File::open(path).map_err(unreadable)?;
        match file.metadata().map_err(unreadable)?.len() {
            len if len == sum.bytes => Ok(Self::new(file)),
            len => Err(format!("is damaged: it has {len} bytes, {} were written", sum.bytes)),
        }
    }

    /// Syncs what was written.
    pub(super) fn finish(self) -> io::Result<FileSum> {
        self.file.sync_all()?;
        Ok(self.sum())
    }

    /// Compares what was read.
    ///
    /// # Errors
    /// Another sum.
    pub(super) fn verify(&self, expected: &FileSum) -> Result<(), String> {
        match self.sum() {
            found if &found == expected => Ok(()),
            found => Err(format!("is damaged: its checksum is {}, not {}", found.xxh64, expected.xxh64)),
        }
    }

    fn sum(&self) -> FileSum {
        FileSum { bytes: self.bytes, xxh64: format!("{:016x}", self.hash.finish()) }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.hash.write(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.pass(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Summed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.pass(&buffer[..count]);
        Ok(count)
    }
}

/// Writes and syncs a small file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<FileSum> {
    let mut file = Summed::create(path)?;
    file.write_all(bytes)?;
    file.finish()
}

/// Reads a small file.
///
/// # Errors
/// A file that cannot be read or has another sum.
pub(super) fn read(path: &Path, sum: &FileSum) -> Result<Vec<u8>, String> {
    let mut file = Summed::open(path, sum)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    file.verify(sum)?;
    Ok(bytes)
}

pub(super) fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}
