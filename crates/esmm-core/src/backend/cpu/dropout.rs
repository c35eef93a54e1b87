//! Dropout factors of a row of a layer, drawn where they are used.

use crate::backend::random::{Dropout, threefry_lanes};

/// Groups of four elements that are drawn together, so that the generator runs in vectors.
const BLOCK: usize = 16;

/// Draws the factors of one row after the other.
pub(super) struct DropoutRow {
    dropout: Dropout,
    words: Vec<u64>,
    factors: Vec<f32>,
}

impl DropoutRow {
    pub(super) fn new(dropout: Dropout, width: usize) -> Self {
        let words = vec![0; (width / 4 + 2).next_multiple_of(BLOCK)];
        Self { dropout, words, factors: vec![0.0; width] }
    }

    /// The factors of the elements `first..first + width`, counted over the whole layer in row-major order.
    #[inline(always)]
    pub(super) fn draw(&mut self, first: usize) -> &[f32] {
        let group = first / 4;
        let needed = (first + self.factors.len()).div_ceil(4) - group;
        for (block, words) in self.words[..needed.next_multiple_of(BLOCK)].chunks_exact_mut(BLOCK).enumerate()
        {
            let start = (group + block * BLOCK) as u32;
            let counters = std::array::from_fn(|lane| start.wrapping_add(lane as u32));
            let [low, high] = threefry_lanes::<BLOCK>(self.dropout.key, [counters, [0; BLOCK]]);
            for ((word, low), high) in words.iter_mut().zip(low).zip(high) {
                *word = (u64::from(low) | u64::from(high) << 32).to_le();
            }
        }
        let threshold = self.dropout.threshold();
        let scale = self.dropout.scale();
        let bits: &[u16] = &bytemuck::cast_slice(&self.words)[first % 4..];
        for (factor, bits) in self.factors.iter_mut().zip(bits) {
            *factor = if u32::from(u16::from_le(*bits)) < threshold { 0.0 } else { scale };
        }
        &self.factors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DropoutKey;

    #[test]
    fn factors_are_the_masks_of_the_reference() {
        let dropout = DropoutKey { seed: 3, step: 8 }.layer(2, 0.4).unwrap();
        let mask = dropout.mask(1000);
        for (first, width) in [(0, 1), (0, 64), (5, 7), (3, 130), (999, 1), (402, 255)] {
            assert_eq!(DropoutRow::new(dropout, width).draw(first), &mask[first..first + width]);
        }
    }
}
