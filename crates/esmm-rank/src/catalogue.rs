//! Items that are known beforehand: what each brings to the first layer, computed once a model.

use half::f16;
use half::slice::HalfFloatSliceExt;
use hashbrown::HashMap;
use pulp::{Simd, WithSimd};

use crate::error::RankError;
use crate::kernel::{Bend, Start};
use crate::part::{Columns, Part};
use crate::prefetch::prefetch;
use crate::ranker::Ranker;

/// How the shares of a catalogue lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharePrecision {
    /// 32-bit floats: the scores are those of the features themselves.
    #[default]
    F32,
    /// 16-bit floats: half the memory, and an error of the first layer's sums of up to one part in 2048.
    F16,
}

/// Items by their ids, each with its share of the first layer.
#[derive(Debug)]
pub struct Catalogue {
    places: HashMap<Box<str>, u32>,
    ids: Vec<Box<str>>,
    shares: Shares,
    share_len: usize,
    values: Vec<(String, Vec<f32>)>,
}

#[derive(Debug)]
enum Shares {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl SharePrecision {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];

    fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl Catalogue {
    /// No items yet; `values` names numbers that each item has besides, as its price.
    pub fn new(ranker: &Ranker, precision: SharePrecision, values: Vec<String>) -> Self {
        Self {
            places: HashMap::new(),
            ids: Vec::new(),
            shares: match precision {
                SharePrecision::F32 => Shares::F32(Vec::new()),
                SharePrecision::F16 => Shares::F16(Vec::new()),
            },
            share_len: ranker.share_len(),
            values: values.into_iter().map(|name| (name, Vec::new())).collect(),
        }
    }

    /// Bytes that the shares of so many items will take: known before anything is read.
    pub fn bytes_for(ranker: &Ranker, precision: SharePrecision, items: u64) -> u64 {
        items * ranker.share_len() as u64 * precision.bytes()
    }

    /// Adds items: their ids, their features, and a column for each of the values.
    ///
    /// # Errors
    /// An id that is empty or already there, columns that do not fit the model, sums or f16 shares that are not finite. The
    /// catalogue is then as it was.
    pub fn push(
        &mut self,
        ranker: &Ranker,
        ids: &[&str],
        features: &Columns<'_>,
        values: &[&[f32]],
    ) -> Result<(), RankError> {
        if ids.len() != features.rows || values.len() != self.values.len() {
            let found = format!("{} ids, {} value columns", ids.len(), values.len());
            let allowed = format!("{} ids, {} value columns", features.rows, self.values.len());
            return Err(RankError::request("catalogue", found, allowed));
        }
        if values.iter().any(|column| column.len() != ids.len()) {
            return Err(RankError::request("catalogue, values", "columns of other lengths", "one an item"));
        }
        ranker.item.check(Part::Item, features)?;
        let before = self.ids.len();
        let pushed = self.push_ids(ids).and_then(|()| {
            let mut sums = vec![0.0; ids.len() * self.share_len];
            ranker.instructions.run(Precompute { ranker, features, out: &mut sums });
            self.push_shares(&sums)
        });
        if let Err(error) = pushed {
            for id in self.ids.drain(before..) {
                self.places.remove(&id);
            }
            return Err(error);
        }
        for ((_, column), new) in self.values.iter_mut().zip(values) {
            column.extend_from_slice(new);
        }
        Ok(())
    }

    fn push_ids(&mut self, ids: &[&str]) -> Result<(), RankError> {
        for id in ids {
            if id.is_empty() {
                return Err(RankError::Catalogue(format!("item {} has no id", self.ids.len() + 1)));
            }
            let Ok(place) = u32::try_from(self.ids.len()) else {
                return Err(RankError::Catalogue(format!("more than {} items", u32::MAX)));
            };
            let id: Box<str> = (*id).into();
            if self.places.contains_key(&id) {
                return Err(RankError::Catalogue(format!("the id `{id}` is there twice")));
            }
            self.places.insert(id.clone(), place);
            self.ids.push(id);
        }
        Ok(())
    }

    fn push_shares(&mut self, sums: &[f32]) -> Result<(), RankError> {
        let bad = |place: usize| {
            let item =
                self.ids[self.ids.len() - sums.len() / self.share_len + place / self.share_len].clone();
            RankError::Catalogue(format!(
                "item `{item}`: its features drive the sums out of the range of floats"
            ))
        };
        match &mut self.shares {
            Shares::F32(shares) => {
                if let Some(place) = sums.iter().position(|sum| !sum.is_finite()) {
                    return Err(bad(place));
                }
                shares.extend_from_slice(sums);
            }
            Shares::F16(shares) => {
                let mut halves = vec![f16::ZERO; sums.len()];
                halves.convert_from_f32_slice(sums);
                if let Some(place) = halves.iter().position(|sum| !sum.is_finite()) {
                    return Err(bad(place));
                }
                shares.extend_from_slice(&halves);
            }
        }
        Ok(())
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Place of an item.
    pub fn place(&self, id: &str) -> Option<u32> {
        self.places.get(id).copied()
    }

    /// Id of the item at a place.
    pub fn id(&self, place: u32) -> Option<&str> {
        self.ids.get(place as usize).map(Box::as_ref)
    }

    /// A column of values, one an item.
    pub fn values(&self, name: &str) -> Option<&[f32]> {
        self.values.iter().find(|(other, _)| other == name).map(|(_, values)| values.as_slice())
    }

    /// Names of the columns of values.
    pub fn value_names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str())
    }

    /// How the shares lie in memory.
    pub fn precision(&self) -> SharePrecision {
        match self.shares {
            Shares::F32(_) => SharePrecision::F32,
            Shares::F16(_) => SharePrecision::F16,
        }
    }

    /// Bytes of the shares.
    pub fn bytes(&self) -> u64 {
        (self.ids.len() * self.share_len) as u64 * self.precision().bytes()
    }

    pub(crate) fn share_len(&self) -> usize {
        self.share_len
    }

    /// Asks for what an item brings ahead of its use.
    #[inline(always)]
    pub(crate) fn prefetch(&self, place: usize) {
        let range = place * self.share_len..(place + 1) * self.share_len;
        match &self.shares {
            Shares::F32(shares) => prefetch(shares, range),
            Shares::F16(shares) => prefetch(shares, range),
        }
    }

    /// What an item brings to the first layer; `buffer` holds it where it must be converted.
    pub(crate) fn share<'a>(&'a self, place: usize, buffer: &'a mut Vec<f32>) -> &'a [f32] {
        let range = place * self.share_len..(place + 1) * self.share_len;
        match &self.shares {
            Shares::F32(shares) => &shares[range],
            Shares::F16(shares) => {
                buffer.resize(self.share_len.max(buffer.len()), 0.0);
                shares[range].convert_to_f32_slice(&mut buffer[..self.share_len]);
                &buffer[..self.share_len]
            }
        }
    }
}

/// The sums of items without a query.
struct Precompute<'a> {
    ranker: &'a Ranker,
    features: &'a Columns<'a>,
    out: &'a mut [f32],
}

impl WithSimd for Precompute<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { ranker, features, out } = self;
        let zeros = vec![0.0; ranker.share_len()];
        let mut pooled = Vec::new();
        let blocks = out.chunks_mut(crate::score::BLOCK * ranker.share_len());
        for (block, out) in blocks.enumerate() {
            let from = block * crate::score::BLOCK;
            let rows = from..from + out.len() / ranker.share_len();
            let start = Start::Row(&zeros);
            ranker.item.sums(simd, &ranker.tables, features, rows, start, Bend::None, &mut pooled, out);
        }
    }
}
