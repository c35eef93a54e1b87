//! What items bring to the first layer, as it lies in memory.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::aligned::Aligned;
use crate::prefetch::Ahead;

/// How the shares of a catalogue lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharePrecision {
    /// 32-bit floats: the scores are those of the features themselves.
    #[default]
    F32,
    /// 16-bit floats: half the memory, and an error of the first layer's sums of up to one part in 2048.
    F16,
}

impl SharePrecision {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::F16];

    /// Bytes of a float.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// The shares of items, by their places.
#[derive(Debug)]
pub(crate) enum Shares {
    F32(Blocks<f32>),
    F16(Blocks<f16>),
}

/// Rows of one width in blocks of memory that stay where they are: nothing is copied, and nothing lies there twice, as they
/// become more.
#[derive(Debug)]
pub(crate) struct Blocks<T> {
    width: usize,
    /// Rows of a block are two to the power of this.
    shift: u32,
    blocks: Vec<Aligned<T>>,
}

/// Bytes of a block at most, where a row is not longer.
const BLOCK: usize = 32 << 20;

impl<T: Copy> Blocks<T> {
    fn new(width: usize) -> Self {
        let rows = BLOCK / (width * size_of::<T>()).max(1);
        Self { width, shift: rows.max(1).ilog2(), blocks: Vec::new() }
    }

    /// Appends whole rows.
    fn extend(&mut self, mut values: &[T]) {
        while !values.is_empty() {
            let full = self.blocks.last().is_none_or(|block| block.room() == 0);
            if full {
                self.blocks.push(Aligned::with_capacity(self.width << self.shift));
            }
            let Some(block) = self.blocks.last_mut() else { return };
            let (now, later) = values.split_at(values.len().min(block.room()));
            block.extend_from_slice(now);
            values = later;
        }
    }

    #[inline(always)]
    fn row(&self, place: usize) -> &[T] {
        let within = place & ((1 << self.shift) - 1);
        &self.blocks[place >> self.shift][within * self.width..][..self.width]
    }
}

impl Shares {
    /// None yet; a share has `width` floats.
    pub(crate) fn new(precision: SharePrecision, width: usize) -> Self {
        match precision {
            SharePrecision::F32 => Self::F32(Blocks::new(width)),
            SharePrecision::F16 => Self::F16(Blocks::new(width)),
        }
    }

    pub(crate) fn precision(&self) -> SharePrecision {
        match self {
            Self::F32(_) => SharePrecision::F32,
            Self::F16(_) => SharePrecision::F16,
        }
    }

    /// Appends the shares of some items.
    ///
    /// # Errors
    /// The place in `sums` of one that is not finite; nothing is appended then.
    pub(crate) fn extend(&mut self, sums: &[f32]) -> Result<(), usize> {
        match self {
            Self::F32(shares) => {
                finite(sums.iter().map(|sum| sum.is_finite()))?;
                shares.extend(sums);
            }
            Self::F16(shares) => {
                let mut halves = vec![f16::ZERO; sums.len()];
                halves.convert_from_f32_slice(sums);
                finite(halves.iter().map(|sum| sum.is_finite()))?;
                shares.extend(&halves);
            }
        }
        Ok(())
    }

    /// Asks for what an item brings ahead of its use.
    #[inline(always)]
    pub(crate) fn prefetch(&self, place: usize, ahead: &mut Ahead) {
        match self {
            Self::F32(shares) => ahead.push(shares.row(place), 0..shares.width),
            Self::F16(shares) => ahead.push(shares.row(place), 0..shares.width),
        }
    }

    /// What an item brings to the first layer; `buffer` holds it where it must be converted.
    #[inline(always)]
    pub(crate) fn row<'a>(&'a self, place: usize, buffer: &'a mut Aligned<f32>) -> &'a [f32] {
        match self {
            Self::F32(shares) => shares.row(place),
            Self::F16(shares) => {
                buffer.at_least(shares.width);
                let buffer = &mut buffer[..shares.width];
                shares.row(place).convert_to_f32_slice(buffer);
                buffer
            }
        }
    }
}

fn finite(values: impl Iterator<Item = bool>) -> Result<(), usize> {
    match values.enumerate().find(|(_, finite)| !finite) {
        None => Ok(()),
        Some((place, _)) => Err(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_every_block() {
        // Four rows a block.
        let width = BLOCK / 4 / size_of::<f32>();
        let mut blocks = Blocks::new(width);
        let row = |place: usize| vec![place as f32; width];
        blocks.extend(&row(0));
        blocks.extend(&(1..6).flat_map(row).collect::<Vec<_>>());
        blocks.extend(&(6..9).flat_map(row).collect::<Vec<_>>());
        assert_eq!(blocks.blocks.len(), 3);
        for place in 0..9 {
            assert!(blocks.row(place) == row(place), "row {place}");
        }
    }

    #[test]
    fn a_row_may_be_longer_than_a_block_and_what_is_not_finite_is_not_taken() {
        for precision in SharePrecision::ALL {
            let mut shares = Shares::new(precision, 3);
            assert_eq!(shares.extend(&[1.0, 2.0, 3.0, 4.0, f32::INFINITY, 6.0]), Err(4));
            assert_eq!(shares.extend(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Ok(()));
            let mut buffer = Aligned::default();
            assert_eq!(shares.row(1, &mut buffer), [4.0, 5.0, 6.0]);
            assert_eq!(shares.precision(), precision);
        }
        let mut long = Blocks::new(BLOCK + 1);
        long.extend(&vec![1_u8; 2 * (BLOCK + 1)]);
        assert!(long.row(1).len() == BLOCK + 1 && long.blocks.len() == 2);
    }
}
