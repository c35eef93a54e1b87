//! Records sorted by a number in bounded memory: sorted runs on disk, merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Result as IoResult, Write};
use std::path::PathBuf;

use crate::error::AliCcpError;

/// Records lie in slabs of this size, so that memory grows without copies.
const SLAB_BYTES: usize = 8 << 20;

/// Buffer of a run that is written or read.
const RUN_BUFFER: usize = 256 << 10;

/// Runs on disk at most: more are joined first.
const MOST_RUNS: usize = 64;

/// Takes records with keys and returns them by ascending key, those of one key in the order in which they came.
#[derive(Debug)]
pub(crate) struct Sorter {
    /// Where runs go and how their names begin.
    stem: PathBuf,
    budget: usize,
    held: Held,
    runs: Vec<PathBuf>,
    /// Runs that were ever written, for their names.
    written: usize,
}

/// Records in memory.
#[derive(Debug, Default)]
pub(crate) struct Held {
    slabs: Vec<Vec<u8>>,
    entries: Vec<Entry>,
    bytes: usize,
}

/// Where a record lies. Ordered by key, then by place, which is the order of coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: u32,
    slab: u32,
    start: u32,
    length: u32,
}

impl Sorter {
    /// Without records. At most `budget` bytes are held, and one record.
    pub(crate) fn new(stem: PathBuf, budget: usize) -> Self {
        Self { stem, budget, held: Held::default(), runs: Vec::new(), written: 0 }
    }

    /// Takes a record.
    pub(crate) fn push(&mut self, key: u32, record: &[u8]) -> Result<(), AliCcpError> {
        let bytes = self.held.bytes + record.len() + size_of::<Entry>();
        if bytes > self.budget && !self.held.entries.is_empty() {
            self.spill()?;
        }
        self.held.push(key, record);
        Ok(())
    }

    /// The records in order. What was written to disk is read from there; the rest joins it, so that little memory is
    /// kept, unless everything fits.
    pub(crate) fn finish(mut self) -> Result<Sorted, AliCcpError> {
        if self.runs.is_empty() {
            self.held.entries.sort_unstable();
            return Ok(Sorted::Held { held: self.held, next: 0 });
        }
        self.spill()?;
        merge(self.runs)
    }

    /// Writes what is held as a run.
    fn spill(&mut self) -> Result<(), AliCcpError> {
        if self.runs.len() == MOST_RUNS {
            self.join_runs()?;
        }
        let mut held = std::mem::take(&mut self.held);
        held.entries.sort_unstable();
        self.write_run(|writer| {
            held.entries.iter().try_for_each(|entry| write_record(writer, entry.key, held.record(*entry)))
        })
    }

    /// Merges all runs into one, so that their buffers and open files stay few.
    fn join_runs(&mut self) -> Result<(), AliCcpError> {
        let runs = std::mem::take(&mut self.runs);
        let mut sorted = merge(runs)?;
        let mut failed = None;
        self.write_run(|writer| {
            loop {
                match sorted.next() {
                    Ok(Some((key, record))) => write_record(writer, key, record)?,
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        failed = Some(error);
                        return Ok(());
                    }
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn write_run(
        &mut self,
        write: impl FnOnce(&mut BufWriter<File>) -> IoResult<()>,
    ) -> Result<(), AliCcpError> {
        let mut name = self.stem.clone().into_os_string();
        name.push(format!(".{}", self.written));
        let path = PathBuf::from(name);
        let run = || -> IoResult<()> {
            let mut writer = BufWriter::with_capacity(RUN_BUFFER, File::create(&path)?);
            write(&mut writer)?;
            writer.flush()
        };
        run().map_err(|error| AliCcpError::io(&path, &error))?;
        self.written += 1;
        self.runs.push(path);
        Ok(())
    }
}

fn write_record(writer: &mut impl Write, key: u32, record: &[u8]) -> IoResult<()> {
    writer.write_all(&key.to_le_bytes())?;
    writer.write_all(&(record.len() as u32).to_le_bytes())?;
    writer.write_all(record)
}

fn merge(runs: Vec<PathBuf>) -> Result<Sorted, AliCcpError> {
    let mut runs: Vec<Run> = runs.into_iter().map(Run::open).collect::<Result<_, _>>()?;
    let mut heap = BinaryHeap::new();
    for (number, run) in runs.iter_mut().enumerate() {
        heap.extend(run.advance()?.map(|key| Reverse((key, number))));
    }
    Ok(Sorted::Merged { runs, heap, last: None })
}

impl Held {
    fn push(&mut self, key: u32, record: &[u8]) {
        if self.slabs.last().is_none_or(|slab| slab.capacity() - slab.len() < record.len()) {
            self.slabs.push(Vec::with_capacity(SLAB_BYTES.max(record.len())));
        }
        let slab = self.slabs.len() - 1;
        let start = self.slabs[slab].len();
        self.slabs[slab].extend_from_slice(record);
        self.bytes += record.len() + size_of::<Entry>();
        self.entries.push(Entry { key, slab: slab as u32, start: start as u32, length: record.len() as u32 });
    }

    fn record(&self, entry: Entry) -> &[u8] {
        let start = entry.start as usize;
        &self.slabs[entry.slab as usize][start..start + entry.length as usize]
    }
}

/// Records by ascending key.
#[derive(Debug)]
pub(crate) enum Sorted {
    /// All in memory.
    Held { held: Held, next: usize },
    /// From runs on disk.
    Merged { runs: Vec<Run>, heap: BinaryHeap<Reverse<(u32, usize)>>, last: Option<usize> },
}

impl Sorted {
    /// The key of the next record.
    pub(crate) fn peek(&mut self) -> Result<Option<u32>, AliCcpError> {
        match self {
            Self::Held { held, next } => Ok(held.entries.get(*next).map(|entry| entry.key)),
            Self::Merged { runs, heap, last } => {
                if let Some(run) = last.take() {
                    heap.extend(runs[run].advance()?.map(|key| Reverse((key, run))));
                }
                Ok(heap.peek().map(|Reverse((key, _))| *key))
            }
        }
    }

    /// The next record with its key.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, &[u8])>, AliCcpError> {
        let Some(key) = self.peek()? else {
            return Ok(None);
        };
        Ok(match self {
            Self::Held { held, next } => {
                *next += 1;
                Some((key, held.record(held.entries[*next - 1])))
            }
            Self::Merged { runs, heap, last } => {
                *last = heap.pop().map(|Reverse((_, run))| run);
                last.map(|run| (key, runs[run].record.as_slice()))
            }
        })
    }
}

/// A run on disk, at one of its records. The file goes with it.
#[derive(Debug)]
pub(crate) struct Run {
    path: PathBuf,
    reader: BufReader<File>,
    record: Vec<u8>,
}

impl Run {
    fn open(path: PathBuf) -> Result<Self, AliCcpError> {
        let file = File::open(&path).map_err(|error| AliCcpError::io(&path, &error))?;
        Ok(Self { path, reader: BufReader::with_capacity(RUN_BUFFER, file), record: Vec::new() })
    }

    /// Reads the next record and returns its key.
    fn advance(&mut self) -> Result<Option<u32>, AliCcpError> {
        let key = self.read().map_err(|error| AliCcpError::io(&self.path, &error));
        if let Ok(None) = key {
            // Disk that is not needed any more; what cannot be removed goes with the folder.
            let _ = std::fs::remove_file(&self.path);
        }
        key
    }

    fn read(&mut self) -> IoResult<Option<u32>> {
        let mut key = [0; 4];
        let mut length = [0; 4];
        match self.reader.read_exact(&mut key) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        self.reader.read_exact(&mut length)?;
        self.record.resize(u32::from_le_bytes(length) as usize, 0);
        self.reader.read_exact(&mut self.record)?;
        Ok(Some(u32::from_le_bytes(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same records sorted by the standard library, with budgets that need no run and many.
    #[test]
    fn sorting_is_stable_in_any_memory() {
        let records: Vec<(u32, Vec<u8>)> = (0..3000_u32)
            .map(|number| (number * 7919 % 701, vec![number as u8; (number * 31 % 97) as usize]))
            .collect();
        let mut expected = records.clone();
        expected.sort_by_key(|(key, _)| *key);
        // 164 KB of records and places: no run, 9, 82 and 164 of them, so that runs are joined.
        for budget in [usize::MAX, 20_000, 2000, 1000] {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(folder.path().join("run"), budget);
            for (key, record) in &records {
                sorter.push(*key, record).unwrap();
                assert!(sorter.held.bytes <= budget.max(97 + size_of::<Entry>()));
            }
            let mut sorted = sorter.finish().unwrap();
            let mut found = Vec::new();
            while let Some(key) = sorted.peek().unwrap() {
                let (same, record) = sorted.next().unwrap().unwrap();
                assert_eq!(same, key);
                found.push((key, record.to_vec()));
            }
            assert!(sorted.next().unwrap().is_none());
            assert!(found == expected, "budget {budget}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "runs are removed");
        }
    }
}
