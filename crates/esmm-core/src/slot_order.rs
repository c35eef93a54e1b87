//! The entries of a batch sorted by slot: how a device without float atomics sums the gradients of repeated rows.

use burn::tensor::ops::IntTensor;
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

/// Entries that a piece has at least, where its slot has that many.
const SHORTEST_PIECE: usize = 32;

/// The entries of each slot in their order, cut into pieces of bounded length: partial sums of pieces, then the sums
/// of the pieces of a slot, always in the same order. A slot that half of a batch names (a feature of two values) keeps
/// no one waiting: P pieces are summed side by side.
///
/// I is the handle of integers: a `Vec` in host memory, a tensor on a device. One of them, and so one upload.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotOrder<I> {
    /// Entries by slot, `[N]`; where each piece begins among them, `[P + 1]`; first piece of each slot, `[U + 1]`.
    pub packed: I,
    /// Entries, N.
    pub entries: usize,
    /// Pieces, P. Each slot has one at least.
    pub pieces: usize,
    /// Slots, U.
    pub slots: usize,
}

impl SlotOrder<Vec<i32>> {
    /// Sorts the entries of a batch by counting. The length of the pieces depends on the batch alone.
    ///
    /// # Shapes
    /// `slots`: slot of each entry, `[N]`, all below `num_slots`.
    ///
    /// # Panics
    /// When a slot is not below `num_slots`.
    pub fn sorted(slots: &[u32], num_slots: usize) -> Self {
        let (entries, offsets) = sorted(slots, num_slots);
        let counts = || offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize);
        let length = piece_length(counts().max().unwrap_or(0));
        let pieces = counts().map(|count| pieces_of(count, length)).sum::<usize>();
        let mut packed = entries;
        packed.reserve_exact(pieces + num_slots + 2);
        for (&first, count) in offsets.iter().zip(counts()) {
            packed.extend((0..pieces_of(count, length)).map(|piece| first + (piece * length) as i32));
        }
        packed.push(slots.len() as i32);
        let mut first = 0;
        packed.push(first);
        packed.extend(counts().map(|count| {
            first += pieces_of(count, length) as i32;
            first
        }));
        Self { packed, entries: slots.len(), pieces, slots: num_slots }
    }

    /// Uploads the order.
    pub fn to_device<B: Backend>(self, device: &B::Device) -> SlotOrder<IntTensor<B>> {
        let Self { packed, entries, pieces, slots } = self;
        let len = packed.len();
        let packed = Tensor::<B, 1, Int>::from_data(TensorData::new(packed, [len]), device);
        SlotOrder { packed: packed.into_primitive(), entries, pieces, slots }
    }
}

/// Entries by slot, and where those of each slot begin, `[U + 1]`.
fn sorted(slots: &[u32], num_slots: usize) -> (Vec<i32>, Vec<i32>) {
    let mut offsets = vec![0; num_slots + 1];
    for &slot in slots {
        offsets[slot as usize + 1] += 1;
    }
    for slot in 0..num_slots {
        offsets[slot + 1] += offsets[slot];
    }
    let mut next = offsets.clone();
    let mut entries = vec![0; slots.len()];
    for (entry, &slot) in slots.iter().enumerate() {
        let place = &mut next[slot as usize];
        entries[*place as usize] = entry as i32;
        *place += 1;
    }
    (entries, offsets)
}

/// About the square root of the most entries of a slot, so that a piece and the pieces of a slot are equally long.
fn piece_length(most: usize) -> usize {
    most.isqrt().next_power_of_two().max(SHORTEST_PIECE)
}

fn pieces_of(count: usize, length: usize) -> usize {
    count.div_ceil(length).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(order: &SlotOrder<Vec<i32>>) -> (&[i32], &[i32], &[i32]) {
        let (entries, rest) = order.packed.split_at(order.entries);
        let (pieces, slots) = rest.split_at(order.pieces + 1);
        assert_eq!(slots.len(), order.slots + 1);
        (entries, pieces, slots)
    }

    #[test]
    fn entries_keep_their_order_within_a_slot() {
        let order = SlotOrder::sorted(&[2, 0, 2, 2, 0], 4);
        assert_eq!(
            parts(&order),
            ([1, 4, 0, 2, 3].as_slice(), [0, 2, 2, 5, 5].as_slice(), [0, 1, 2, 3, 4].as_slice())
        );
    }

    /// 5000 entries on slot 1: pieces of 128 (the power of two above the root, 70), so 40 of them; one each for others.
    #[test]
    fn a_slot_that_many_name_is_cut() {
        let slots: Vec<u32> = (0..5002).map(|entry| u32::from(entry > 0) + u32::from(entry > 5000)).collect();
        let order = SlotOrder::sorted(&slots, 3);
        let (entries, pieces, firsts) = parts(&order);
        assert!(entries.iter().copied().eq(0..5002));
        assert_eq!((order.pieces, firsts), (42, [0, 1, 41, 42].as_slice()));
        let lengths: Vec<i32> = pieces.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(lengths, [vec![1], vec![128; 39], vec![5000 - 39 * 128], vec![1]].concat());
    }
}
