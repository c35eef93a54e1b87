use esmm_core::BatchBuilder;
use std::sync::Arc;

use esmm_core::{Feature, FeatureSchema, Side};

use super::super::unknown::UnknownShares;
use super::super::{BatchLoaderConfig, LoadedBatch, Purpose};
use super::{LoaderThreads, Sent, num_builders, start};
use crate::load::rows::SplitRows;
use crate::{Dataset, RowCounts, SparseColumn};

fn config(rows_of_tables: usize) -> BatchLoaderConfig {
    let features = vec![
        Feature::sparse("user", Side::User, rows_of_tables),
        Feature::sparse("item", Side::Item, 7),
        Feature::dense("price", Side::Item),
    ];
    let schema = FeatureSchema::new(features).unwrap();
    let unknown = UnknownShares { shares: vec![0.2, 0.2] };
    BatchLoaderConfig { schema, stages: 2, batch_size: 10, purpose: Purpose::Training { seed: 3 }, unknown }
}

fn rows(count: u32, largest_item: u32) -> SplitRows {
    let column = |modulus: u32| SparseColumn::Single((0..count).map(|row| row * 7 % modulus).collect());
    SplitRows::Memory(Arc::new(Dataset {
        rows: count as usize,
        sparse: vec![column(50), column(largest_item + 1)],
        dense: vec![(0..count).map(|row| row as f32).collect()],
        depth: (0..count).map(|row| (row % 3) as u8).collect(),
        group: None,
        truth: None,
        counts: RowCounts::default(),
        users: None,
    }))
}

/// The batches until the word that is none, and whether that was the end.
fn pass(rows: &SplitRows, skip: usize, builders: usize) -> (Vec<LoadedBatch>, bool) {
    let threads = LoaderThreads { readers: 1, builders };
    let mut feed = start(rows, &config(50), &BatchBuilder::new(&config(50).schema), 1, skip, threads);
    let mut batches = Vec::new();
    loop {
        match feed.recv() {
            Ok(Sent::Batch(loaded)) => batches.push(loaded),
            Ok(Sent::End) => return (batches, true),
            Ok(Sent::Failed(_)) | Err(_) => return (batches, false),
        }
    }
}

#[test]
fn batches_do_not_depend_on_the_number_of_builders() {
    let rows = rows(95, 6);
    for skip in [0, 1, 4, 10] {
        let (expected, ended) = pass(&rows, skip, 1);
        assert!(ended && expected.len() == 10 - skip);
        for builders in [2, 3, 4, 16] {
            assert_eq!(pass(&rows, skip, builders), (expected.clone(), true), "{builders} builders");
        }
        let (whole, _) = pass(&rows, 0, 1);
        assert_eq!(
            expected,
            whole[skip..],
            "a pass that goes on has the batches of one that was not interrupted"
        );
    }
}

/// An item beyond its table, in some of the batches: a fault of the program, so the builder panics.
#[test]
fn a_builder_that_panics_ends_the_pass() {
    for builders in [1, 2, 5] {
        let (_, ended) = pass(&rows(1000, 7), 0, builders);
        assert!(!ended, "{builders} builders");
    }
}

#[test]
fn a_pass_that_nobody_wants_any_more_ends() {
    for builders in [1, 3] {
        let threads = LoaderThreads { readers: 1, builders };
        let mut feed =
            start(&rows(1000, 6), &config(50), &BatchBuilder::new(&config(50).schema), 0, 0, threads);
        assert!(matches!(feed.recv(), Ok(Sent::Batch(..))));
    }
}

/// 4 bytes a row for each builder, a gibibyte in all.
#[test]
fn large_tables_have_few_builders() {
    assert_eq!(
        [1, 2, 4, 16, 64].map(|processors| num_builders(&config(50).schema, processors)),
        [1, 1, 3, 12, 12]
    );
    assert_eq!(num_builders(&config(1 << 29).schema, 16), 1);
}
