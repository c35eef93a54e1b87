//! Items that are known beforehand: what each brings to the first layer, computed once a model.

use pulp::{Simd, WithSimd};

use crate::aligned::Aligned;
use crate::error::RankError;
use crate::ids::{Ids, Lookup};
use crate::kernel::{Bend, Start};
use crate::part::{Columns, Part};
use crate::prefetch::Ahead;
use crate::ranker::Ranker;
use crate::shares::{SharePrecision, Shares};

/// Items by their ids, each with its share of the first layer.
#[derive(Debug)]
pub struct Catalogue {
    ids: Ids,
    shares: Shares,
    share_len: usize,
    values: Vec<(String, Vec<f32>)>,
}

impl Catalogue {
    /// No items yet; `values` names numbers that each item has besides, as its price.
    pub fn new(ranker: &Ranker, precision: SharePrecision, values: Vec<String>) -> Self {
        Self {
            ids: Ids::default(),
            shares: Shares::new(precision, ranker.share_len()),
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
            self.ids.truncate(before);
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
            if self.ids.len() == u32::MAX as usize {
                return Err(RankError::Catalogue(format!("more than {} items", u32::MAX)));
            }
            if !self.ids.push(id) {
                return Err(RankError::Catalogue(format!("the id `{id}` is there twice")));
            }
        }
        Ok(())
    }

    fn push_shares(&mut self, sums: &[f32]) -> Result<(), RankError> {
        self.shares.extend(sums).map_err(|place| {
            let first = self.ids.len() - sums.len() / self.share_len;
            let item = self.ids.get((first + place / self.share_len) as u32).unwrap_or_default();
            RankError::Catalogue(format!(
                "item `{item}`: its features drive the sums out of the range of floats"
            ))
        })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.ids.len() == 0
    }

    /// Place of an item.
    pub fn place(&self, id: &str) -> Option<u32> {
        self.ids.place(id)
    }

    /// Places of many items.
    pub fn find(&self, lookup: &mut Lookup) {
        self.ids.find(lookup);
    }

    /// Id of the item at a place.
    pub fn id(&self, place: u32) -> Option<&str> {
        self.ids.get(place)
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
        self.shares.precision()
    }

    /// Bytes of the shares.
    pub fn bytes(&self) -> u64 {
        (self.ids.len() * self.share_len) as u64 * self.precision().bytes()
    }

    pub(crate) fn share_len(&self) -> usize {
        self.share_len
    }

    /// What items bring to the first layer.
    #[inline(always)]
    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
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
        let (mut pooled, mut ahead) = (Aligned::default(), Ahead::default());
        let blocks = out.chunks_mut(crate::score::BLOCK * ranker.share_len());
        for (block, out) in blocks.enumerate() {
            let from = block * crate::score::BLOCK;
            let rows = from..from + out.len() / ranker.share_len();
            let start = Start::Row(&zeros);
            ranker.item.sums(
                simd,
                &ranker.tables,
                features,
                rows,
                start,
                Bend::None,
                &mut pooled,
                out,
                &mut ahead,
            );
        }
    }
}
