//! The towers' input, cut into what rows have of their own and what many of them have in common.
//!
//! `x * W` is a sum over the features: `x_1 W_1 + x_2 W_2 + ...`. Where the rows of a batch hold only R different
//! values of a part, R matmul rows and one addition a row do what B rows do. That is so for features of groups, and
//! for *narrow* features: single ids that lie among few rows of the table.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::bags::HostBags;
use super::stairs::{self, Stairs};
use crate::backend::SharedFeatures;

/// How the input of a batch is cut. What forward finds is kept for backward.
#[derive(Debug)]
pub(super) struct Parts {
    /// The bags of rows without those of narrow features; `None` where there are no such features.
    rest: Option<Rest>,
    /// The dense features of rows without those in `stairs`; `None` where there are none of these.
    dense: Option<Dense>,
    /// Columns of the input that the own bags and dense values fill, in their order.
    pub(super) own_columns: Vec<Range<usize>>,
    /// Narrow features.
    pub(super) narrow: Vec<Narrow>,
    /// Positions among bins.
    pub(super) stairs: Vec<Stairs>,
    /// Columns that groups fill.
    pub(super) group_columns: Vec<Range<usize>>,
}

/// A feature whose ids lie among few rows of the table.
#[derive(Debug)]
pub(super) struct Narrow {
    /// Its columns of the input.
    pub(super) columns: Range<usize>,
    /// The rows of the table.
    pub(super) rows: Range<usize>,
    /// Which of them each row of the batch reads, `[B]`, from 0.
    pub(super) of_rows: Vec<u32>,
}

/// Some of the dense features of rows.
#[derive(Debug)]
struct Dense {
    /// A number for each of them, row by row.
    numbers: Vec<f32>,
    /// See [`Bags::bins`](crate::backend::Bags::bins).
    bins: Option<Arc<[usize]>>,
}

/// Bags without those of narrow features.
#[derive(Debug)]
struct Rest {
    num_sparse: usize,
    slots: Vec<u32>,
    weighted: Option<(Vec<u32>, Vec<f32>)>,
}

impl Parts {
    /// Cuts the input of `own` and, with groups, of the features that they share.
    pub(super) fn new(own: &HostBags<'_>, groups: Option<&SharedFeatures>, dim: usize) -> Self {
        let all_own =
            || SharedFeatures { sparse: vec![false; own.num_sparse], dense: vec![false; own.dense_width()] };
        let features = groups.map_or_else(|| Cow::Owned(all_own()), Cow::Borrowed);
        let ranges = narrow_ranges(own, dim);
        // Where the bag of each own feature stands in the model, before narrow ones are taken out.
        let is_own = features.sparse.iter().enumerate().filter(|(_, is_shared)| !**is_shared);
        let places: Vec<usize> = is_own.map(|(place, _)| place).collect();
        let mut rest = features.as_ref().clone();
        for (place, _) in places.iter().zip(&ranges).filter(|(_, range)| range.is_some()) {
            rest.sparse[*place] = true;
        }
        let is_anything_else = ranges.iter().any(Option::is_none);
        let (stairs, dense) = take_stairs_out(own, &mut rest, is_anything_else, dim);
        let own_columns = rest.columns(false, dim);
        let (rest, of_rows) = take_out(own, &ranges);
        let narrow = places.iter().zip(ranges).filter_map(|(place, rows)| Some((place * dim, rows?)));
        let narrow = narrow.zip(of_rows).map(|((start, rows), of_rows)| {
            let rows = rows.start as usize..rows.end as usize;
            Narrow { columns: start..start + dim, rows, of_rows }
        });
        let group_columns = features.columns(true, dim);
        Self { rest, dense, own_columns, narrow: narrow.collect(), stairs, group_columns }
    }

    /// The bags that rows have of their own; `all` are those that were cut.
    pub(super) fn own<'a>(&'a self, all: &HostBags<'a>) -> HostBags<'a> {
        let (dense, bins) = match &self.dense {
            None => (all.dense, all.bins.clone()),
            Some(Dense { numbers, bins }) => ((!numbers.is_empty()).then_some(&numbers[..]), bins.clone()),
        };
        match &self.rest {
            None => HostBags { dense, bins, ..all.clone() },
            Some(rest) => HostBags {
                num_sparse: rest.num_sparse,
                slots: &rest.slots,
                weighted: rest.weighted.as_ref().map(|(segments, weights)| (&segments[..], &weights[..])),
                dense,
                bins,
                ..*all
            },
        }
    }
}

/// Most rows of a narrow feature: their matmuls should stay in the cache.
const NARROW: usize = 1024;

/// Whether R rows of a matmul and an addition a row are less work than B rows. An addition costs about as much as three
/// columns of a matmul, and small matmuls are slower than large ones.
fn pays(rows: usize, batch: usize, dim: usize) -> bool {
    rows <= NARROW && 3 * (rows * dim + 3 * batch) <= 2 * batch * dim
}

/// For each feature the rows of the table that its ids lie among, if it is narrow.
fn narrow_ranges(bags: &HostBags<'_>, dim: usize) -> Vec<Option<Range<u32>>> {
    let features = bags.num_sparse;
    let mut low = vec![u32::MAX; features];
    let mut high = vec![0; features];
    let mut singles = vec![0; features];
    match bags.weighted {
        None => {
            for slots in bags.slots.chunks_exact(features.max(1)) {
                for ((low, high), &slot) in low.iter_mut().zip(&mut high).zip(slots) {
                    (*low, *high) = (slot.min(*low), slot.max(*high));
                }
            }
            singles.fill(bags.rows);
        }
        Some((segments, weights)) => {
            let mut last = vec![u32::MAX; features];
            for ((&bag, &weight), &slot) in segments.iter().zip(weights).zip(bags.slots) {
                let feature = bag as usize % features;
                (low[feature], high[feature]) = (slot.min(low[feature]), slot.max(high[feature]));
                // Two ids in a bag, or a weight, can never be made up for.
                let is_single = last[feature] != bag && weight == 1.0;
                singles[feature] += if is_single { 1 } else { 2 * bags.rows };
                last[feature] = bag;
            }
        }
    }
    let range = |feature: usize| {
        let rows = low[feature]..high[feature] + 1;
        (singles[feature] == bags.rows && pays(rows.len(), bags.rows, dim)).then_some(rows)
    };
    let mut ranges: Vec<_> = (0..features).map(range).collect();
    // Something must be left to multiply.
    if bags.dense.is_none() && ranges.iter().all(Option::is_some) {
        ranges[features - 1] = None;
    }
    ranges
}

/// The positions among bins that are worth a table, and the other dense features, if there are such positions. Marks their
/// columns in `rest` as none that rows have of their own. Where nothing else would be left, the last of them stays.
fn take_stairs_out(
    own: &HostBags<'_>,
    rest: &mut SharedFeatures,
    is_anything_else: bool,
    dim: usize,
) -> (Vec<Stairs>, Option<Dense>) {
    let (Some(dense), Some(bins)) = (own.dense, &own.bins) else { return (Vec::new(), None) };
    let mut is_taken: Vec<bool> = bins.iter().map(|bins| stairs::pays(*bins, own.rows)).collect();
    if let Some(last) = is_taken.last_mut().filter(|_| !is_anything_else) {
        *last = false;
    }
    if !is_taken.contains(&true) {
        return (Vec::new(), None);
    }
    // Where each own dense column stands among all of them.
    let is_own = rest.dense.iter().enumerate().filter(|(_, is_shared)| !**is_shared);
    let places: Vec<usize> = is_own.map(|(place, _)| place).collect();
    let first_dense = rest.sparse.len() * dim;
    let mut taken = Vec::new();
    let mut kept_bins = Vec::new();
    let mut next = 0;
    let width = bins.len();
    for (number, (&bins, &is_taken)) in bins.iter().zip(&is_taken).enumerate() {
        let columns = &places[next..next + bins];
        next += bins;
        if is_taken {
            let start = first_dense + columns[0];
            taken.push(Stairs::read(dense, width, number, start..start + bins));
            columns.iter().for_each(|column| rest.dense[*column] = true);
        } else {
            kept_bins.push(bins);
        }
    }
    let kept = dense.iter().zip(is_taken.iter().cycle()).filter(|(_, is_taken)| !**is_taken);
    let numbers = kept.map(|(number, _)| *number).collect();
    let has_bins = kept_bins.iter().any(|bins| *bins > 1);
    (taken, Some(Dense { numbers, bins: has_bins.then(|| kept_bins.into()) }))
}

/// The bags without narrow features, if there are any, and the row that each row of the batch reads of each of them.
fn take_out(bags: &HostBags<'_>, ranges: &[Option<Range<u32>>]) -> (Option<Rest>, Vec<Vec<u32>>) {
    let narrow = ranges.iter().flatten().count();
    if narrow == 0 {
        return (None, Vec::new());
    }
    let features = ranges.len();
    let others: Vec<usize> = (0..features).filter(|&feature| ranges[feature].is_none()).collect();
    let Some((segments, weights)) = bags.weighted else {
        let of_rows = ranges.iter().enumerate().filter_map(|(feature, range)| {
            let start = range.as_ref()?.start;
            Some(bags.slots[feature..].iter().step_by(features).map(|slot| slot - start).collect())
        });
        let mut slots = Vec::with_capacity(bags.rows * others.len());
        for row in bags.slots.chunks_exact(features) {
            slots.extend(others.iter().map(|&feature| row[feature]));
        }
        return (Some(Rest { num_sparse: others.len(), slots, weighted: None }), of_rows.collect());
    };
    // Place of each feature among the narrow ones, or among the others.
    let mut narrows = 0..;
    let mut rests = 0..;
    let places: Vec<usize> = ranges
        .iter()
        .filter_map(|range| if range.is_some() { narrows.next() } else { rests.next() })
        .collect();
    let mut of_rows: Vec<Vec<u32>> = vec![Vec::with_capacity(bags.rows); narrow];
    let mut slots = Vec::new();
    let mut rest_segments = Vec::new();
    let mut rest_weights = Vec::new();
    for ((&bag, &weight), &slot) in segments.iter().zip(weights).zip(bags.slots) {
        let row = bag as usize / features;
        let feature = bag as usize % features;
        match &ranges[feature] {
            Some(range) => of_rows[places[feature]].push(slot - range.start),
            None => {
                slots.push(slot);
                rest_segments.push((row * others.len() + places[feature]) as u32);
                rest_weights.push(weight);
            }
        }
    }
    let weighted = Some((rest_segments, rest_weights));
    (Some(Rest { num_sparse: others.len(), slots, weighted }), of_rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 100;
    const DIM: usize = 16;

    /// Feature 0 lies among rows 7 to 10, feature 1 among a thousand; feature 2 is as narrow as feature 0.
    fn slots() -> Vec<u32> {
        (0..ROWS as u32).flat_map(|row| [7 + row % 4, row * 10, 20 + row % 3]).collect()
    }

    #[test]
    fn narrow_features_are_taken_out() {
        let slots = slots();
        let bags = HostBags {
            tables: 1,
            rows: ROWS,
            num_sparse: 3,
            slots: &slots,
            weighted: None,
            dense: None,
            bins: None,
        };
        let parts = Parts::new(&bags, None, DIM);
        assert_eq!(parts.own_columns, std::slice::from_ref(&(16..32)));
        let narrow: Vec<_> = parts.narrow.iter().map(|narrow| (&narrow.columns, &narrow.rows)).collect();
        assert_eq!(narrow, [(&(0..16), &(7..11)), (&(32..48), &(20..23))]);
        assert!(parts.narrow[0].of_rows.iter().copied().eq((0..100).map(|row| row % 4)));
        assert_eq!(parts.own(&bags).num_sparse, 1);
        assert!(parts.own(&bags).slots.iter().copied().eq((0..100).map(|row| row * 10)));
    }

    #[test]
    fn weights_and_missing_ids_are_not_narrow() {
        let slots = slots();
        let segments: Vec<u32> = (0..slots.len() as u32).collect();
        let mut weights = vec![1.0; slots.len()];
        weights[6] = 0.5;
        let mut with_bags = HostBags {
            tables: 1,
            rows: ROWS,
            num_sparse: 3,
            slots: &slots,
            weighted: Some((&segments, &weights)),
            dense: None,
            bins: None,
        };
        let parts = Parts::new(&with_bags, None, DIM);
        assert_eq!(parts.own_columns, std::slice::from_ref(&(0..32)));
        let own = parts.own(&with_bags);
        assert_eq!((own.num_sparse, &own.slots[..4]), (2, &[7, 0, 8, 10][..]));
        let (segments, weights) = own.weighted.unwrap_or_default();
        assert_eq!((&segments[..4], &weights[..5]), (&[0, 1, 2, 3][..], &[1.0, 1.0, 1.0, 1.0, 0.5][..]));
        // The last row has no id of feature 2.
        let short: Vec<u32> = (0..slots.len() as u32 - 1).collect();
        let ones = vec![1.0; short.len()];
        with_bags.weighted = Some((&short, &ones));
        with_bags.slots = &slots[..short.len()];
        assert_eq!(Parts::new(&with_bags, None, DIM).own_columns, std::slice::from_ref(&(16..48)));
    }

    /// Three numbers of 10, 1 and 16 bins beside the narrow features: those of many bins get tables, and of nothing but bins
    /// the last stays.
    #[test]
    fn positions_among_bins_are_taken_out() {
        let slots = slots();
        let dense: Vec<f32> = (0..ROWS).flat_map(|row| [row as f32 / 10.0, 0.5, 15.25]).collect();
        let bags = HostBags {
            tables: 1,
            rows: ROWS,
            num_sparse: 3,
            slots: &slots,
            weighted: None,
            dense: Some(&dense),
            bins: Some([10, 1, 16].into()),
        };
        let parts = Parts::new(&bags, None, DIM);
        assert_eq!(parts.own_columns, [16..32, 58..59]);
        let columns: Vec<_> = parts.stairs.iter().map(|stairs| stairs.columns.clone()).collect();
        assert_eq!(columns, [48..58, 59..75]);
        assert_eq!((&parts.stairs[0].ones[25..27], &parts.stairs[1].ones[..2]), (&[2, 2][..], &[15, 15][..]));
        let own = parts.own(&bags);
        assert_eq!((own.dense, own.bins), (Some(&[0.5; ROWS][..]), None));
        let alone = HostBags { num_sparse: 0, slots: &slots[..1], bins: Some([10, 4, 16].into()), ..bags };
        let parts = Parts::new(&alone, None, DIM);
        assert_eq!((parts.own_columns.len(), &parts.own_columns[0]), (1, &(10..30)));
        let own = parts.own(&alone);
        assert_eq!((&own.dense.unwrap()[..2], own.bins.as_deref()), (&[0.5, 15.25][..], Some(&[4, 16][..])));
    }

    #[test]
    fn something_is_left() {
        let slots = vec![3; ROWS];
        let bags = HostBags {
            tables: 1,
            rows: ROWS,
            num_sparse: 1,
            slots: &slots,
            weighted: None,
            dense: None,
            bins: None,
        };
        assert!(Parts::new(&bags, None, DIM).narrow.is_empty());
    }
}
