//! A ranker that is warm allocates nothing: counted by an allocator of this test's own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use burn_ndarray::NdArray;
use esmm_core::{EsmmConfig, Feature, FeatureSchema, Pooling, Side, SparseInput};
use esmm_rank::{Catalogue, Columns, Ranker, Request, Scratch, SharePrecision};
use esmm_run::correction::{Correction, Platt};

thread_local! {
    /// Pieces of memory that this thread has asked for.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: it is the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Candidates of each kind; more than one block of them.
const ITEMS: usize = 50;

/// One model and several, plain and corrected; items of a catalogue of either precision, and items with their features.
#[test]
fn a_warm_ranker_allocates_nothing() {
    let schema = FeatureSchema::new(vec![
        Feature::sparse("user", Side::User, 9),
        Feature::bag("tags", Side::Item, 5, Pooling::Mean),
        Feature::dense("price", Side::Item),
        Feature::dense("position", Side::Context),
    ]);
    let mut config = EsmmConfig::new(schema.unwrap());
    config.towers.hidden = vec![24, 12, 6];
    config.towers.dropout = vec![0.0; 3];
    let model = |seed: u64| {
        let config = EsmmConfig { seed, ..config.clone() };
        config.init::<NdArray>(&Default::default()).unwrap().state_dict()
    };
    let offsets: Vec<usize> = (0..=ITEMS).map(|item| 2 * item).collect();
    let ids: Vec<u32> = (0..2 * ITEMS as u32).map(|id| id % 5).collect();
    let tags = [SparseInput::Bag { offsets: &offsets, ids: &ids, weights: None }];
    let prices = [1.5; ITEMS];
    let prices = [&prices[..]];
    let items = Columns { rows: ITEMS, sparse: &tags, dense: &prices };
    let positions = vec![0.5; 2 * ITEMS];
    let positions = [&positions[..]];
    let user = [SparseInput::Single(&[3])];
    let names: Vec<String> = (0..ITEMS).map(|item| item.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let places: Vec<u32> = (0..ITEMS as u32).rev().collect();
    for members in [1, 3] {
        for corrected in [false, true] {
            let models = (0..members).map(model).collect();
            let mut ranker = Ranker::ensemble(&config, models, &["position".to_owned()]).unwrap();
            if corrected {
                ranker = ranker.corrected(Correction { stages: vec![Platt::default(); 2] }).unwrap();
            }
            for precision in SharePrecision::ALL {
                let mut catalogue = Catalogue::new(&ranker, precision, Vec::new());
                catalogue.push(&ranker, &names, &items, &[]).unwrap();
                let request = Request {
                    query: Columns { rows: 1, sparse: &user, dense: &[] },
                    listed: Some((&catalogue, &places)),
                    items,
                    pairs: Columns { rows: 2 * ITEMS, sparse: &[], dense: &positions },
                };
                let mut scratch = Scratch::default();
                let before = ASKED.get();
                ranker.score(&request, &mut scratch).unwrap();
                assert!(ASKED.get() > before, "the count counts");
                let warm = ASKED.get();
                for _ in 0..3 {
                    assert_eq!(ranker.score(&request, &mut scratch).unwrap().len(), 2 * ITEMS);
                }
                let asked = ASKED.get() - warm;
                assert_eq!(asked, 0, "{members} models, corrected: {corrected}, {precision:?}");
            }
        }
    }
}
