//! What the documentation says under `# Panics`: bad code is told, and never reads another row.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};

use super::grouped::pair;
use super::{Folder, chunks, names, sparse, vocabulary};
use crate::{Chunk, EncoderFitter, GroupedFile, Origin};

/// Whether a call panics.
fn panics<T>(work: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

#[test]
fn rows_that_a_chunk_does_not_have() {
    let path: Arc<Path> = Path::new("a.csv").into();
    let origin = Origin::lines(path, vec![2, 3]);
    assert_eq!(origin.place(1).to_string(), "a.csv:3");
    assert!(panics(|| origin.place(2)));
    assert!(!panics(|| origin.skip(2)) && panics(|| origin.skip(3)));

    let folder = Folder::new();
    let chunk: Chunk = chunks(&folder.text("a.csv", "x\n1\n2\n"), &["x"]).unwrap().remove(0);
    assert_eq!(chunk.slice(1..2).rows(), 1);
    assert!(panics(|| chunk.slice(1..3)));
}

#[test]
fn flags_for_other_rows_than_those_of_the_chunk() {
    let folder = Folder::new();
    let chunk = chunks(&folder.text("a.csv", "x\n1\n2\n"), &["x"]).unwrap().remove(0);
    let mut fitter = EncoderFitter::new(vec![sparse("x", vocabulary())]).unwrap();
    assert!(panics(|| fitter.observe(&chunk, &[true])));
    let mut fitter = EncoderFitter::new(vec![sparse("x", vocabulary())]).unwrap();
    fitter.observe(&chunk, &[true, false]).unwrap();
}

#[test]
fn segments_and_impressions_that_are_not_there() {
    let folder = Folder::new();
    let source = pair(&folder);
    let path = Path::new(&source.paths[0]);
    let file = GroupedFile::open(path, "groups.parquet", &names(&["item"]), source.lists).unwrap();
    assert!(panics(|| file.segment_rows(2)) && panics(|| file.segment(2)));
    let segment = file.segment(1).unwrap();
    assert_eq!(segment.flat(1..3).unwrap().rows(), 2);
    assert!(panics(|| segment.flat(1..4)));
    assert_eq!(segment.pieces(2).count(), 2);
    assert!(panics(|| segment.pieces(0).count()));
}

/// Rows of a Parquet file have numbers and no lines: there is no last one.
#[test]
fn rows_of_a_table_go_on() {
    let folder = Folder::new();
    let column: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let chunk = chunks(&folder.parquet("a.parquet", vec![("x", column)]), &["x"]).unwrap().remove(0);
    assert!(chunk.origin().place(7).to_string().ends_with("a.parquet: row 8"));
}
