//! How many ids each field has, and where they begin.

use crate::field::{FIELDS_LEN, find};

/// Rows of the official training files.
pub(super) const OFFICIAL_ROWS: u64 = 42_300_135;

/// Largest ids of the official fields, in the order of the fields; 127_14 as wide as its multiple values are.
const OFFICIAL_IDS: [u32; FIELDS_LEN] = [
    294_736, 98, 14, 3, 8, 4, 4, 3, 5, 6_086, 116_741, 426_000, 33_786, 3_078_306, 8_581, 604_498, 96_258,
    208_179, 7_735, 384_343, 142_632, 74_317, 4,
];

/// Fields with more ids than this have fewer where there are fewer rows.
const SCALED_FROM: u32 = 1000;

/// How the number of different ids grows with the rows.
const GROWTH: f64 = 0.7;

/// The ids of all fields.
#[derive(Debug, Clone)]
pub(super) struct Spaces {
    sizes: [u32; FIELDS_LEN],
    offsets: [u32; FIELDS_LEN],
}

impl Spaces {
    pub(super) fn new(rows: u64) -> Self {
        let share = (rows as f64 / OFFICIAL_ROWS as f64).min(1.0).powf(GROWTH);
        let size = |ids: u32| match ids {
            ids if ids <= SCALED_FROM => ids,
            ids => ((f64::from(ids) * share) as u32).max(SCALED_FROM),
        };
        let mut next = 1;
        let offsets = OFFICIAL_IDS.map(|ids| {
            let offset = next;
            next += ids;
            offset
        });
        Self { sizes: OFFICIAL_IDS.map(size), offsets }
    }

    /// Number of ids of a field.
    pub(super) fn size(&self, field: usize) -> u32 {
        self.sizes[field]
    }

    /// The id in the file of one of a field's ids, which count from 0.
    pub(super) fn id(&self, field: usize, local: u32) -> u32 {
        self.offsets[field] + local % self.sizes[field]
    }
}

/// The place of a field by its code.
pub(super) fn place(number: usize, in_14_days: bool) -> usize {
    find(number, in_14_days).unwrap_or(0)
}
