//! Rows in files against the same rows in memory, and what a shuffled pass must keep.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, UInt32Array};
use burn::data::dataloader::DataLoader;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_ndarray::NdArray;
use esmm_core::Pooling;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::{
    DataError, Folder, StreamOptions, StreamedSplits, bag, dense, load_splits, sparse, stream_splits,
    vocabulary,
};
use crate::loader::{BatchLoader, BatchLoaderConfig, Purpose, UnknownShares};
use crate::stream::{FileRows, WindowSizes};
use crate::{
    Dataset, DenseTransform, FeatureSpec, FittedEncoders, LabelSpec, Orphans, SourceSpec, SplitRows,
    SplitSpec,
};

pub(super) const ROWS: usize = 1000;

pub(super) fn labels() -> LabelSpec {
    LabelSpec { orphan_conversions: Orphans::Drop, ..LabelSpec::new(["click", "conversion"]) }
}

pub(super) fn features() -> Vec<FeatureSpec> {
    vec![
        sparse("user", vocabulary()),
        bag("tags", vocabulary(), Pooling::Mean, true),
        dense("row", DenseTransform::None, None),
    ]
}

/// Row numbers from `first` on, with users, weighted tags, times out of order, and some orphans.
fn columns(first: usize, rows: usize) -> Vec<(&'static str, ArrayRef)> {
    let numbers = first..first + rows;
    let ints = |of: fn(usize) -> usize| {
        Arc::new(Int64Array::from_iter_values(numbers.clone().map(|row| of(row) as i64)))
    };
    let texts = |of: fn(usize) -> String| Arc::new(StringArray::from_iter_values(numbers.clone().map(of)));
    vec![
        ("row", ints(|row| row)),
        ("user", texts(|row| format!("u{}", row * 17 % 101))),
        (
            "tags",
            texts(|row| {
                (0..row % 4).map(|tag| format!("t{}:0.5", (row + tag) % 9)).collect::<Vec<_>>().join("|")
            }),
        ),
        ("time", ints(|row| row * 7919 % 997)),
        ("click", ints(|row| usize::from(row % 3 == 0))),
        ("conversion", ints(|row| usize::from(row % 6 == 0 || row % 50 == 1))),
    ]
}

/// Two CSV files: 100 rows and the others.
fn csv(folder: &Folder) -> SourceSpec {
    for (name, first, rows) in [("a.csv", 0, 100), ("b.csv", 100, ROWS - 100)] {
        let columns = columns(first, rows);
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let mut text = names.join(",") + "\r\n";
        for row in 0..rows {
            let cells: Vec<String> = columns
                .iter()
                .map(|(_, column)| arrow::util::display::array_value_to_string(column, row).unwrap())
                .collect();
            text.push_str(&(cells.join(",") + if row % 10 == 3 { "\r\n\r\n" } else { "\r\n" }));
        }
        folder.text(name, text);
    }
    SourceSpec::new([folder.path("*.csv")])
}

/// Two Parquet files of row groups of 70 rows.
fn parquet(folder: &Folder) -> SourceSpec {
    for (name, first, rows) in [("a.parquet", 0, 300), ("b.parquet", 300, ROWS - 300)] {
        write(folder, name, columns(first, rows), 70);
    }
    SourceSpec::new([folder.path("?.parquet")])
}

/// Impressions beside their groups of ten, in segments of 70.
pub(super) fn grouped(folder: &Folder) -> SourceSpec {
    let numbers = |rows: usize, each: usize| -> ArrayRef {
        Arc::new(UInt32Array::from_iter_values((0..rows).map(|row| (row / each) as u32)))
    };
    let mut impressions = columns(0, ROWS);
    impressions.retain(|(name, _)| *name != "user");
    impressions.push(("group", numbers(ROWS, 10)));
    write(folder, "impressions.parquet", impressions, 70);
    let users = (0..ROWS / 10).map(|group| format!("u{}", group * 17 % 101));
    let users: ArrayRef = Arc::new(StringArray::from_iter_values(users));
    write(folder, "groups.parquet", vec![("group", numbers(ROWS / 10, 1)), ("user", users)], 7);
    let source = SourceSpec::new([folder.path("impressions.parquet")]);
    SourceSpec { groups: Some("groups.parquet".to_owned()), ..source }
}

fn write(folder: &Folder, name: &str, columns: Vec<(&'static str, ArrayRef)>, row_group: usize) {
    let batch = arrow::record_batch::RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group)).build();
    let file = std::fs::File::create(folder.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn splits(source: &SourceSpec) -> Vec<SplitSpec> {
    let (source, valid, test) = (source.clone(), 0.2, 0.1);
    vec![
        SplitSpec::Time { source: source.clone(), column: "time".into(), valid, test },
        SplitSpec::Hash { source: source.clone(), column: "user".into(), valid, test, seed: 3 },
        SplitSpec::Random { source: source.clone(), valid, test, seed: 5 },
        SplitSpec::Files { train: source.clone(), valid: Some(source), test: None },
    ]
}

fn stream(spec: &SplitSpec, shuffle_rows: usize) -> Result<StreamedSplits, DataError> {
    let options = StreamOptions { memory: 1 << 30, shuffle_rows, by_group: false };
    stream_splits(spec, &features(), &labels(), Some("user"), None, options)
}

/// All windows of a pass, and all their rows together.
pub(super) fn windows(
    rows: &FileRows,
    shuffle: Option<(u64, u64)>,
    sizes: WindowSizes,
    first: u32,
) -> Vec<Dataset> {
    let mut windows = Vec::new();
    rows.windows(shuffle, sizes, first, &mut |window| {
        windows.push(window);
        true
    })
    .unwrap();
    windows
}

pub(super) fn numbers<'a>(windows: impl IntoIterator<Item = &'a Dataset>) -> Vec<usize> {
    windows.into_iter().flat_map(|window| window.dense[0].iter().map(|row| *row as usize)).collect()
}

#[test]
fn rows_in_files_are_the_rows_in_memory() {
    let folder = Folder::new();
    for spec in [csv(&folder), parquet(&folder), grouped(&folder)].iter().flat_map(splits) {
        let loaded = load_splits(&spec, &features(), &labels(), Some("user"), None, false).unwrap();
        let streamed = stream(&spec, 64).unwrap();
        assert_eq!(streamed.encoders, loaded.encoders, "{spec:?}");
        assert_eq!(streamed.report, loaded.report, "{spec:?}");
        assert_eq!(streamed.sample, loaded.train, "{spec:?}");
        let pairs = [
            (Some(&streamed.train), Some(&loaded.train)),
            (streamed.valid.as_ref(), loaded.valid.as_ref()),
            (streamed.test.as_ref(), loaded.test.as_ref()),
        ];
        for (rows, expected) in pairs {
            let (Some(rows), Some(expected)) = (rows, expected) else {
                assert!(rows.is_none() && expected.is_none(), "{spec:?}");
                continue;
            };
            assert_eq!(rows.rows(), expected.rows as u64);
            assert_eq!(&windows(rows, None, WindowSizes::equal(ROWS), 0), std::slice::from_ref(expected));
            for window in windows(rows, None, WindowSizes::equal(7), 0).split_last().unwrap().1 {
                assert_eq!(window.rows, 7);
            }
        }
    }
}

#[test]
fn a_shuffled_pass_has_every_row_once_and_can_start_at_any_window() {
    let folder = Folder::new();
    for source in [csv(&folder), parquet(&folder), grouped(&folder)] {
        let train = stream(&SplitSpec::Random { source, valid: 0.3, test: 0.0, seed: 1 }, 100).unwrap().train;
        let sizes = train.shuffle_windows(3);
        assert_eq!([0, 1, 4, 5, 40].map(|window| sizes.rows(window)), [6, 12, 96, 99, 99], "{sizes:?}");
        let passes = [0, 1].map(|pass| windows(&train, Some((9, pass)), sizes, 0));
        for pass in &passes {
            let mut rows = numbers(pass);
            rows.sort_unstable();
            assert_eq!(rows, numbers(&windows(&train, None, WindowSizes::equal(ROWS), 0)));
            assert!(pass.iter().all(|window| window.rows <= 99));
        }
        assert_eq!(numbers(&windows(&train, Some((9, 0)), sizes, 0)), numbers(&passes[0]));
        for first in 0..passes[1].len() {
            let rest = windows(&train, Some((9, 1)), sizes, first as u32);
            assert_eq!(rest, passes[1][first..], "from window {first}");
        }
    }
    let parquet =
        stream(&SplitSpec::Files { train: parquet(&folder), valid: None, test: None }, 100).unwrap();
    let pass = |pass| numbers(&windows(&parquet.train, Some((9, pass)), WindowSizes::equal(70), 0));
    assert_ne!(pass(0), pass(1), "row groups come in another order in every pass");
}

/// The windows, wherever they end, are the same at any number of threads, and so is what is wrong: that of the first block of
/// the pass that has something.
#[test]
fn any_number_of_readers_reads_the_same_windows() {
    let folder = Folder::new();
    for source in [csv(&folder), parquet(&folder), grouped(&folder)] {
        let train = stream(&SplitSpec::Random { source, valid: 0.3, test: 0.0, seed: 1 }, 100).unwrap().train;
        assert!(train.blocks.as_ref().is_some_and(|blocks| blocks.len() > 1));
        let sizes = train.shuffle_windows(3);
        let read = |readers: usize, first: u32, most: usize| {
            let mut windows = Vec::new();
            let take = &mut |window| {
                windows.push(window);
                windows.len() < most
            };
            train.windows_by(readers, Some((9, 1)), sizes, first, take).unwrap();
            windows
        };
        let all = read(1, 0, usize::MAX);
        for readers in [2, 3, 8, 100] {
            assert_eq!(read(readers, 0, usize::MAX), all, "{readers} readers");
            assert_eq!(read(readers, 2, usize::MAX), all[2..], "{readers} readers, from the third window");
            assert_eq!(read(readers, 0, 2), all[..2], "{readers} readers, two windows wanted");
        }
    }
}

#[test]
fn every_number_of_readers_tells_of_the_first_block_that_changed() {
    let folder = Folder::new();
    let source = parquet(&folder);
    let files: Vec<_> = source.files().unwrap().iter().map(|file| file.path().to_owned()).collect();
    let train = stream(&SplitSpec::Files { train: source, valid: None, test: None }, 100).unwrap().train;
    let blocks = train.blocks.as_ref().unwrap().len();
    assert!(blocks > 2, "{blocks} blocks");
    std::fs::write(&files[0], "no Parquet file").unwrap();
    let told = |readers: usize| {
        let mut take = |_| true;
        let read = train.windows_by(readers, None, WindowSizes::equal(ROWS), 0, &mut take);
        read.unwrap_err().to_string()
    };
    let one = told(1);
    for readers in [2, 3, 8] {
        assert_eq!(told(readers), one);
    }
}

/// Row numbers of the batches of a pass, and the numbers of rows in them.
pub(super) fn batches(rows: &SplitRows, purpose: Purpose, pass: u64, skip: usize) -> Vec<Vec<u64>> {
    let SplitRows::Files(files) = rows else { panic!("rows in memory") };
    batches_of(files.encoders(), rows, purpose, pass, skip)
}

pub(super) fn batches_of(
    encoders: &FittedEncoders,
    rows: &SplitRows,
    purpose: Purpose,
    pass: u64,
    skip: usize,
) -> Vec<Vec<u64>> {
    let schema = encoders.schema().clone();
    let config =
        BatchLoaderConfig { schema, stages: 2, batch_size: 32, purpose, unknown: UnknownShares::default() };
    let loader: BatchLoader<NdArray> = config.init(rows.clone(), &Default::default());
    loader.handle().go_on(pass, skip);
    let found = loader.iter().map(|batch| {
        let dense = TensorPrimitive::Float(batch.features.bags.own.dense.unwrap());
        let dense = Tensor::<NdArray, 2>::from_primitive(dense);
        dense.into_data().iter::<f32>().map(|row| row as u64).collect::<Vec<u64>>()
    });
    let found = found.collect();
    loader.handle().check().unwrap();
    found
}

#[test]
fn batches_are_full_and_a_pass_goes_on_at_any_of_them() {
    let folder = Folder::new();
    let spec = SplitSpec::Files { train: parquet(&folder), valid: None, test: None };
    let rows = SplitRows::from(stream(&spec, 300).unwrap().train);
    let training = Purpose::Training { seed: 4 };
    let whole = batches(&rows, training, 2, 0);
    let (last, full) = whole.split_last().unwrap();
    assert!(full.iter().all(|batch| batch.len() == 32) && last.len() == rows.rows() % 32);
    for skip in 0..=whole.len() {
        assert_eq!(batches(&rows, training, 2, skip), whole[skip..], "from batch {skip}");
    }
    assert_ne!(batches(&rows, training, 3, 0), whole);
    let window = |batches: &[Vec<u64>]| {
        let mut rows = batches.concat();
        rows.sort_unstable();
        rows
    };
    // Windows of 32, 32, 64, 128, ... rows at most 288: the fourth begins at row 128, with batch 4.
    assert!(whole[4..8].concat() != window(&whole[4..8]), "rows of a window are shuffled");
    let scored = batches(&rows, Purpose::Scoring, 0, 0).concat();
    assert_eq!(scored, window(&whole), "in the order of the files");
}

#[test]
fn windows_fit_the_memory() {
    let folder = Folder::new();
    let spec = SplitSpec::Files { train: csv(&folder), valid: None, test: None };
    let options = StreamOptions { memory: 16 << 10, shuffle_rows: 1_000_000, by_group: true };
    let train = stream_splits(&spec, &features(), &labels(), None, None, options).unwrap().train;
    let largest =
        windows(&train, None, train.shuffle_windows(1), 0).into_iter().max_by_key(|window| window.rows);
    let bytes = largest.unwrap().bytes();
    // Two windows are in memory at a time, each a quarter of what is allowed; rows differ by a few tags.
    assert!((3 << 10..5 << 10).contains(&bytes), "{bytes}");
}

#[test]
fn data_that_changes_is_noticed() {
    let folder = Folder::new();
    let spec = SplitSpec::Files { train: csv(&folder), valid: None, test: None };
    let train = stream(&spec, 64).unwrap().train;
    let text = std::fs::read_to_string(folder.path("b.csv")).unwrap();
    std::fs::write(folder.path("b.csv"), &text[..text.len() - 40]).unwrap();
    let error = train.windows(None, WindowSizes::equal(50), 0, &mut |_| true).unwrap_err();
    let message = folder.message(&error);
    assert!(message.starts_with("b.csv"), "{message}");
    assert!(
        message.ends_with("has changed since the training began") || message.contains("fields"),
        "{message}"
    );
}

#[test]
fn bad_values_are_found_where_they_stand() {
    let folder = Folder::new();
    let text: String = (0..60).map(|row| format!("{row},{},0\n", row % 2)).collect();
    let source = folder.text("a.csv", format!("row,click,conversion\n{text}x,0,0\n"));
    let spec = SplitSpec::Random { source, valid: 0.4, test: 0.0, seed: 0 };
    let features = [dense("row", DenseTransform::None, None)];
    let options = StreamOptions { memory: 1 << 20, shuffle_rows: 10, by_group: true };
    let error = stream_splits(&spec, &features, &labels(), None, None, options).unwrap_err();
    assert!(folder.message(&error).starts_with("a.csv:62: column `row`: found `x`"), "{error}");
}
