//! Copies of what cannot be read again and again from its start: standard input, pipes, compressed files.
//!
//! A training reads its files several times and jumps in them. So the bytes of a pipe, and the unpacked bytes of a compressed
//! file, are copied once, into a folder that goes with the process, however that ends: [`clear`] removes it, a signal does,
//! and after a process that was killed the next one that needs such a folder.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use esmm_files::{LockError, NewFolder, remove_leftovers};
use flate2::read::MultiGzDecoder;

use super::files::STDIN;
use crate::error::DataError;

/// What helps where the folder for copies refuses.
const ADVICE: &str = "set TMPDIR to a folder with room for it, or unpack it first";

static SPOOL: Mutex<Option<Spool>> = Mutex::new(None);

struct Spool {
    folder: NewFolder,
    copies: HashMap<Original, PathBuf>,
}

/// What was copied. A compressed file that has changed is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Original {
    path: PathBuf,
    state: Option<(u64, Option<SystemTime>)>,
}

/// Removes all copies. A program calls it before it ends; what was read from a pipe is then gone.
pub fn clear() {
    SPOOL.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Whether a path is an ordinary file, which can be read as often as anyone likes.
pub(crate) fn is_regular(path: &Path) -> bool {
    path != Path::new(STDIN) && fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// The copy of a file that needs one.
pub(crate) fn copy(path: &Path, shown: &Path) -> Result<Option<PathBuf>, DataError> {
    let failed = |error: io::Error| DataError::io(shown, &error);
    let regular = is_regular(path);
    if regular && Packing::of(&head(File::open(path).map_err(failed)?).map_err(failed)?.0).is_none() {
        return Ok(None);
    }
    let state = match regular {
        true => fs::metadata(path).ok().map(|metadata| (metadata.len(), metadata.modified().ok())),
        false => None,
    };
    let original = Original { path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), state };
    let mut spool = SPOOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(copy) = spool.as_ref().and_then(|spool| spool.copies.get(&original)) {
        return Ok(Some(copy.clone()));
    }
    let input: Box<dyn Read> = match path == Path::new(STDIN) {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(failed)?),
    };
    let spool = match &mut *spool {
        Some(spool) => spool,
        none => {
            let parent = std::env::temp_dir();
            remove_leftovers(&parent);
            let no_folder = |error: LockError| {
                let reason = format!("cannot hold a copy of {}: {error}; {ADVICE}", shown.display());
                DataError::file(&parent, reason)
            };
            let folder = NewFolder::within(&parent, "esmm").map_err(no_folder)?;
            none.insert(Spool { folder, copies: HashMap::new() })
        }
    };
    let copy = spool.folder.path().join(spool.copies.len().to_string());
    let refused = |error: io::Error| {
        let folder = spool.folder.path();
        DataError::file(folder, format!("cannot hold a copy of {}: {error}; {ADVICE}", shown.display()))
    };
    let file = File::create(&copy).map_err(refused)?;
    unpack(input, file).map_err(|stop| match stop {
        Stop::Input(error) => DataError::file(shown, format!("cannot be read or unpacked: {error}")),
        Stop::Output(error) => refused(error),
    })?;
    spool.copies.insert(original, copy.clone());
    Ok(Some(copy))
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

fn head(mut input: impl Read) -> io::Result<(Vec<u8>, impl Read)> {
    let mut head = Vec::new();
    input.by_ref().take(4).read_to_end(&mut head)?;
    Ok((head, input))
}

/// Which side of a copy failed.
enum Stop {
    Input(io::Error),
    Output(io::Error),
}

/// Copies an input, unpacked.
fn unpack(input: impl Read, file: File) -> Result<(), Stop> {
    let (head, rest) = head(input).map_err(Stop::Input)?;
    let packing = Packing::of(&head);
    let whole = BufReader::with_capacity(1 << 17, io::Cursor::new(head).chain(rest));
    match packing {
        None => copy_all(whole, file),
        Some(Packing::Gzip) => copy_all(MultiGzDecoder::new(whole), file),
        Some(Packing::Zstd) => copy_all(zstd::Decoder::new(whole).map_err(Stop::Input)?, file),
    }
}

fn copy_all(mut input: impl Read, mut file: File) -> Result<(), Stop> {
    let mut buffer = vec![0; 1 << 17];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => file.write_all(&buffer[..count]).map_err(Stop::Output)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Stop::Input(error)),
        }
    }
}
