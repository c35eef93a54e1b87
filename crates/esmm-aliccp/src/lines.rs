//! Raw files in blocks of whole lines, read and unpacked in a thread of their own.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::read::MultiGzDecoder;
use memchr::{memchr_iter, memrchr};

use crate::error::{AliCcpError, BadRow};

/// Bytes of a block, unless a line is longer.
pub(crate) const BLOCK_BYTES: usize = 2 << 20;

/// Longest line that is taken for one.
const LONGEST_LINE: usize = 64 << 20;

/// Blocks that may wait to be worked on.
const READ_AHEAD: usize = 2;

/// Some whole lines of a file.
#[derive(Debug)]
pub(crate) struct Block {
    /// The file.
    pub(crate) path: Arc<Path>,
    /// Place of the file among all that are read.
    pub(crate) file: u32,
    /// Line of the first one, from 1.
    pub(crate) first_line: u64,
    /// The lines.
    pub(crate) bytes: Vec<u8>,
    /// Bytes of the files, packed as they are, up to the end of this block.
    pub(crate) done: u64,
}

/// A line without its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) bytes: &'a [u8],
    /// From 1.
    pub(crate) number: u64,
    /// Where it lies in its block, with its end.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Whether the file ends in it, without a line feed.
    pub(crate) cut: bool,
}

impl Line<'_> {
    /// A fault of this line, with a hint where the file ends in it.
    pub(crate) fn fault(&self, path: &Path, fault: String) -> BadRow {
        let hint = if self.cut { " (the file ends in this line: was it cut off?)" } else { "" };
        BadRow::new(path, self.number, fault + hint)
    }
}

impl Block {
    /// Its lines but for empty ones.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.lines_in(0..self.bytes.len(), self.first_line)
    }

    /// The lines of a part of it that begins with one, whose number is given.
    pub(crate) fn lines_in(&self, part: Range<usize>, first_line: u64) -> impl Iterator<Item = Line<'_>> {
        let bytes = &self.bytes[part.clone()];
        let ends = memchr_iter(b'\n', bytes).map(|end| (end, false));
        let last = bytes.last().filter(|last| **last != b'\n').map(|_| (bytes.len(), true));
        let mut from = 0;
        let lines = ends.chain(last).zip(first_line..).map(move |((end, cut), number)| {
            let line = &bytes[from..end];
            let start = part.start + from;
            from = bytes.len().min(end + 1);
            let end = part.start + from;
            Line { bytes: line.strip_suffix(b"\r").unwrap_or(line), number, start, end, cut }
        });
        lines.filter(|line| !line.bytes.is_empty())
    }
}

/// The size of some files together.
pub(crate) fn total_bytes(files: &[PathBuf]) -> Result<u64, AliCcpError> {
    let size = |path: &PathBuf| path.metadata().map_err(|error| AliCcpError::io(path, &error));
    files.iter().map(|path| size(path).map(|metadata| metadata.len())).sum()
}

/// The blocks of some files, one file after another. The same files make the same blocks each time.
pub(crate) fn blocks(files: &[PathBuf]) -> Receiver<Result<Block, AliCcpError>> {
    let (sender, receiver) = sync_channel(READ_AHEAD);
    let files = files.to_vec();
    thread::spawn(move || {
        let done = Arc::new(AtomicU64::new(0));
        for (file, path) in (0..).zip(&files) {
            if let Err(error) = read_file(path, file, &done, &sender) {
                // Without a receiver nobody wants to know.
                let _ = sender.send(Err(error));
                return;
            }
        }
    });
    receiver
}

fn read_file(
    path: &Path,
    file: u32,
    done: &Arc<AtomicU64>,
    sender: &SyncSender<Result<Block, AliCcpError>>,
) -> Result<(), AliCcpError> {
    let mut stream = open(path, done)?;
    let path: Arc<Path> = path.into();
    let mut rest = Vec::new();
    let mut first_line = 1;
    loop {
        let mut bytes = std::mem::take(&mut rest);
        let end =
            fill(&mut stream, &mut bytes).map_err(|error| damaged(&path, &bytes, first_line, &error))?;
        match memrchr(b'\n', &bytes) {
            Some(last) if !end => {
                rest = Vec::with_capacity(BLOCK_BYTES + (bytes.len() - last));
                rest.extend_from_slice(&bytes[last + 1..]);
                bytes.truncate(last + 1);
            }
            None if !end => {
                if bytes.len() > LONGEST_LINE {
                    let reason = "this line has more than 64 MiB: is it a raw file?";
                    return Err(AliCcpError::file(&place(&path, first_line), reason));
                }
                rest = bytes;
                continue;
            }
            _ => {}
        }
        let lines = memchr_iter(b'\n', &bytes).count() as u64;
        let block = Block { path: path.clone(), file, first_line, bytes, done: done.load(Ordering::Relaxed) };
        first_line += lines;
        let empty = block.bytes.is_empty();
        if (!empty && sender.send(Ok(block)).is_err()) || end {
            return Ok(());
        }
    }
}

/// `file:line`, to stand where a path does.
fn place(path: &Path, line: u64) -> PathBuf {
    PathBuf::from(format!("{}:{line}", path.display()))
}

fn damaged(path: &Path, bytes: &[u8], first_line: u64, error: &IoError) -> AliCcpError {
    let line = first_line + memchr_iter(b'\n', bytes).count() as u64;
    let reason = match error.kind() {
        ErrorKind::UnexpectedEof => "the packed file ends here: it was cut off".to_owned(),
        _ if is_gz(path) => format!("the packed file is damaged here: {error}"),
        _ => error.to_string(),
    };
    AliCcpError::file(&place(path, line), reason)
}

/// Reads until there are [`BLOCK_BYTES`] more, so that blocks do not depend on how much a read happens to return. True
/// at the end.
fn fill(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Result<bool, IoError> {
    let before = bytes.len();
    stream.take(BLOCK_BYTES as u64).read_to_end(bytes)?;
    Ok(bytes.len() - before < BLOCK_BYTES)
}

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

fn open(path: &Path, done: &Arc<AtomicU64>) -> Result<Box<dyn Read>, AliCcpError> {
    let file = File::open(path).map_err(|error| AliCcpError::io(path, &error))?;
    let counted = Counted { file, done: done.clone() };
    match is_gz(path) {
        true => Ok(Box::new(MultiGzDecoder::new(std::io::BufReader::with_capacity(256 << 10, counted)))),
        false => Ok(Box::new(counted)),
    }
}

/// Counts what is read, for the progress.
struct Counted {
    file: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, IoError> {
        let count = self.file.read(buffer)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
