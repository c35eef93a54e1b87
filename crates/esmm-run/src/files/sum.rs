//! Size and checksum of a file.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Size and checksum of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Size in bytes.
    pub bytes: u64,
    /// xxHash64 with seed 0, in hexadecimal digits.
    pub xxh64: String,
}

impl FileSum {
    /// Of a file on disk.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (mut file, mut hash, mut bytes) = (File::open(path)?, XxHash64::with_seed(0), 0);
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => {
                    hash.write(&buffer[..count]);
                    bytes += count as u64;
                }
            }
        }
        Ok(Self { bytes, xxh64: format!("{:016x}", hash.finish()) })
    }

    /// Of a text in memory.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, xxh64: format!("{:016x}", XxHash64::oneshot(0, bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_sum_of_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..3 * CHUNK / 2).map(|index| (index % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(FileSum::of(file.path()).unwrap(), FileSum::of_bytes(&bytes));
        // The value of the empty input with seed 0, from the specification of xxHash.
        assert_eq!(FileSum::of_bytes(b"").xxh64, "ef46db3751d8e999");
    }
}
