//! The four files, block of groups by block of groups.

use rayon::ThreadPool;

use super::config::{GenerateConfig, GenerateReport};
use super::group::{Anomaly, Split, World};
use super::impression::{Impressions, Rates, intercepts};
use super::raw_file::RawFile;
use super::space::{OFFICIAL_ROWS, Spaces};
use crate::error::AliCcpError;
use crate::queue::Ordered;

/// Impressions of the official test files for each of the training files.
const TEST_SHARE: f64 = 43_016_840.0 / OFFICIAL_ROWS as f64;
const TRAIN: Split = Split { name: "train", salt: 1 << 32, rows_per_group: 42_300_135.0 / 730_600.0 };
const TEST: Split = Split { name: "test", salt: 2 << 32, rows_per_group: 43_016_840.0 / 884_212.0 };

/// Groups that are made at once.
const BLOCK_GROUPS: u64 = 64;

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
    let mut blocks = Vec::new();
    let mut group = 0;
    let mut done = 0;
    while done < rows {
        let first = group;
        let before = done;
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
            let mut list = Vec::new();
            let mut out = Vec::new();
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
    let mut list = Vec::new();
    let mut out = Vec::new();
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
    let mut file = RawFile::create(&path, config.gzip)?;
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
    file.finish()
}
