//! The four files, block of groups by block of groups.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use rayon::ThreadPool;

use super::group::{Anomaly, Split, World};
use super::impression::{Impressions, Rates, intercepts};
use super::space::{OFFICIAL_ROWS, Spaces};
use crate::aliccp::error::AliCcpError;
use crate::aliccp::queue::Ordered;

/// Impressions of the official test files for each of the training files.
const TEST_SHARE: f64 = 43_016_840.0 / OFFICIAL_ROWS as f64;
const TRAIN: Split = Split { name: "train", salt: 1 << 32, rows_per_group: 42_300_135.0 / 730_600.0 };
const TEST: Split = Split { name: "test", salt: 2 << 32, rows_per_group: 43_016_840.0 / 884_212.0 };

/// Groups that are made at once.
const BLOCK_GROUPS: u64 = 64;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateConfig {
    /// Folder for the files; others in it stay.
    pub out: PathBuf,
    /// Impressions of the training files. The test files get 1.017 times as many, as the official ones.
    pub rows: u64,
    /// Of everything random.
    pub seed: u64,
    /// Clicks for each impression.
    pub click_rate: f64,
    /// Conversions for each impression.
    pub conversion_rate: f64,
    /// Conversions without a click for each impression.
    pub orphan_rate: f64,
    /// Share of groups with something unusual that is allowed: no common features, an impression without features, a
    /// common row that is there twice, impressions that come back behind those of the next group, two categories.
    pub anomalies: f64,
    /// Pack the files with gzip.
    pub gzip: bool,
    /// Threads. The files do not depend on their number.
    pub threads: usize,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GenerateReport {
    /// Impressions of the training files.
    pub train_rows: u64,
    /// Common rows of the training files.
    pub train_groups: u64,
    /// Impressions of the test files.
    pub test_rows: u64,
    /// Common rows of the test files.
    pub test_groups: u64,
}

impl GenerateConfig {
    /// With the official rates.
    pub fn new(out: impl Into<PathBuf>, rows: u64, seed: u64) -> Self {
        Self {
            out: out.into(),
            rows,
            seed,
            click_rate: 0.03887,
            conversion_rate: 0.000214,
            orphan_rate: 230.0 / OFFICIAL_ROWS as f64,
            anomalies: 0.0,
            gzip: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    fn validate(&self) -> Result<(), AliCcpError> {
        let refuse = |what: String| Err(AliCcpError::Setting(what));
        if self.rows == 0 {
            return refuse("--rows 0: it must be at least 1".to_owned());
        }
        let rates = [
            ("--click-rate", self.click_rate),
            ("--conversion-rate", self.conversion_rate),
            ("the rate of conversions without a click", self.orphan_rate),
            ("--anomalies", self.anomalies),
        ];
        if let Some((name, rate)) = rates.into_iter().find(|(_, rate)| !(0.0..=0.9).contains(rate)) {
            return refuse(format!("{name} {rate}: it must be from 0 to 0.9"));
        }
        if self.conversion_rate > self.click_rate {
            let (conversions, clicks) = (self.conversion_rate, self.click_rate);
            return refuse(format!(
                "--conversion-rate {conversions}: it must not be above the click rate, {clicks}"
            ));
        }
        Ok(())
    }
}

/// Writes `sample_skeleton_{train,test}.csv` and `common_features_{train,test}.csv`.
///
/// # Errors
/// A setting out of range, a disk that refuses.
pub fn generate(config: &GenerateConfig) -> Result<GenerateReport, AliCcpError> {
    config.validate()?;
    std::fs::create_dir_all(&config.out).map_err(|error| AliCcpError::io(&config.out, &error))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build();
    let pool =
        pool.map_err(|error| AliCcpError::Setting(format!("--threads {}: {error}", config.threads)))?;
    let world = World { seed: config.seed, spaces: Spaces::new(config.rows), anomalies: config.anomalies };
    let intercepts = intercepts(&world, TRAIN, config.click_rate, config.conversion_rate);
    let rates = Rates { intercepts, orphans: config.orphan_rate / (1.0 - config.click_rate) };
    let write = |split: Split, rows: u64| {
        let blocks = blocks(&world, split, rows);
        let groups = blocks.last().map_or(0, |block| block.groups.end);
        write_skeleton(config, &world, split, rates, &blocks, &pool)?;
        write_common(config, &world, split, groups, &pool)?;
        Ok::<u64, AliCcpError>(groups)
    };
    let test_rows = (config.rows as f64 * TEST_SHARE).round() as u64;
    Ok(GenerateReport {
        train_groups: write(TRAIN, config.rows)?,
        train_rows: config.rows,
        test_groups: write(TEST, test_rows)?,
        test_rows,
    })
}

/// Groups whose impressions are made at once.
#[derive(Debug, Clone)]
struct GroupBlock {
    groups: std::ops::Range<u64>,
    first_sample: u64,
    /// Impressions; the last block may have less than its groups would.
    rows: u64,
}

/// Blocks of groups that have so many impressions together.
fn blocks(world: &World, split: Split, rows: u64) -> Vec<GroupBlock> {
    let (mut blocks, mut group, mut done) = (Vec::new(), 0, 0);
    while done < rows {
        let (first, before) = (group, done);
        while group < first + BLOCK_GROUPS && done < rows {
            done += world.group(split, group).rows;
            group += 1;
        }
        let rows = done.min(rows) - before;
        blocks.push(GroupBlock { groups: first..group, first_sample: before + 1, rows });
    }
    blocks
}

fn write_skeleton(
    config: &GenerateConfig,
    world: &World,
    split: Split,
    rates: Rates,
    blocks: &[GroupBlock],
    pool: &ThreadPool,
) -> Result<(), AliCcpError> {
    let work = blocks.iter().map(|block| move || skeleton_block(world, split, rates, block));
    write_file(config, &format!("sample_skeleton_{}", split.name), pool, work)
}

fn write_common(
    config: &GenerateConfig,
    world: &World,
    split: Split,
    groups: u64,
    pool: &ThreadPool,
) -> Result<(), AliCcpError> {
    let starts = (0..groups).step_by(BLOCK_GROUPS as usize);
    let work = starts.map(|start| {
        move || {
            let (mut list, mut out) = (Vec::new(), Vec::new());
            for place in start..groups.min(start + BLOCK_GROUPS) {
                let group = world.group(split, shuffled(place, groups));
                world.write_common(split, &group, &mut list, &mut out);
            }
            out
        }
    });
    write_file(config, &format!("common_features_{}", split.name), pool, work)
}

/// Another order of the numbers below `count`: a step that has no divisor with it visits each once.
fn shuffled(place: u64, count: u64) -> u64 {
    let mut steps = (count as f64 * 0.618_033_988_75) as u64..;
    let step = steps.find(|step| *step > 0 && divisor(*step, count) == 1).unwrap_or(1);
    ((u128::from(place) * u128::from(step) + u128::from(count / 3)) % u128::from(count)) as u64
}

fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

fn skeleton_block(world: &World, split: Split, rates: Rates, block: &GroupBlock) -> Vec<u8> {
    let (mut list, mut out) = (Vec::new(), Vec::new());
    let mut sample = block.first_sample;
    let end = block.first_sample + block.rows;
    let mut waiting: Option<(Impressions<'_>, std::ops::Range<u64>)> = None;
    for number in block.groups.clone() {
        let group = world.group(split, number);
        let mut impressions = Impressions::new(world, split, group);
        let comes_back = group.anomaly == Some(Anomaly::ComesBack) && number + 1 < block.groups.end;
        let first = if comes_back && waiting.is_none() { group.rows.div_ceil(2) } else { group.rows };
        let mut write = |impressions: &mut Impressions<'_>, rows: std::ops::Range<u64>| {
            for row in rows {
                if sample < end {
                    impressions.write(sample, row, rates, &mut list, &mut out);
                    sample += 1;
                }
            }
        };
        write(&mut impressions, 0..first);
        if let Some((mut impressions, rows)) = waiting.take() {
            write(&mut impressions, rows);
        }
        if first < group.rows {
            waiting = Some((impressions, first..group.rows));
        }
    }
    out
}

/// A file of what some work makes, in order.
fn write_file<'a, W>(
    config: &GenerateConfig,
    name: &str,
    pool: &ThreadPool,
    work: impl Iterator<Item = W> + Send,
) -> Result<(), AliCcpError>
where
    W: FnOnce() -> Vec<u8> + Send + 'a,
{
    let path = config.out.join(format!("{name}.csv{}", if config.gzip { ".gz" } else { "" }));
    let partial = config.out.join(format!(".{name}.partial"));
    let mut file = RawFile::create(&partial, config.gzip)?;
    pool.in_place_scope(|scope| {
        let mut queue = Ordered::new(4 * config.threads);
        for work in work {
            if queue.is_full() {
                file.write(queue.next())?;
            }
            queue.submit(scope, work);
        }
        while let Some(bytes) = queue.next() {
            file.write(Some(bytes))?;
        }
        Ok::<(), AliCcpError>(())
    })?;
    file.finish()?;
    std::fs::rename(&partial, &path).map_err(|error| AliCcpError::io(&path, &error))
}

/// A raw file that is being written, plain or packed. Dropped before its end it is removed.
struct RawFile<'a> {
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
    fn create(path: &'a Path, gzip: bool) -> Result<Self, AliCcpError> {
        let file = File::create(path).map_err(|error| AliCcpError::io(path, &error))?;
        let buffered = BufWriter::with_capacity(1 << 20, file);
        let stream: Box<dyn Finish> = match gzip {
            true => Box::new(GzEncoder::new(buffered, Compression::fast())),
            false => Box::new(buffered),
        };
        Ok(Self { path, stream: Some(stream) })
    }

    fn write(&mut self, bytes: Option<Vec<u8>>) -> Result<(), AliCcpError> {
        let (Some(stream), Some(bytes)) = (&mut self.stream, bytes) else {
            return Ok(());
        };
        stream.write_all(&bytes).map_err(|error| AliCcpError::io(self.path, &error))
    }

    fn finish(mut self) -> Result<(), AliCcpError> {
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
