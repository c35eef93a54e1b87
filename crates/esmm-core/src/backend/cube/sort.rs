//! The entries of a batch in the order of the table rows that they read, found on the device: a stable radix sort.
//!
//! Each pass sorts by one digit of the row numbers, the lowest first. Tiles of entries count their lowest digits, in the
//! launch that pools them; then each tile finds from the counts of all where its entries of each digit go, puts them there in
//! their order, and counts the next digit of each where it went: a launch a pass. Counts are integers and places follow from
//! them, so a batch has the same order every time.
//!
//! Where groups of rows share features, one sort takes three lists one after the other: the entries of rows, those of groups,
//! and the rows of the batch, each with its group, which stands for a row after the last one of the table. So the rows of each
//! group lie side by side behind all entries, and sums over them need no sort of their own.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::scatter::scatter_kernel;
use super::tensor::{OnCube, address, array, ints};
use crate::backend::{Indices, InputBags};

/// Units of a cube, and entries of a round: those that it places at once.
pub(super) const UNITS: u32 = 256;
/// Entries of a tile at least.
const TILE: usize = 2048;
/// Tiles at most: each reads the counts of all.
const TILES: usize = 96;
/// Bits of a digit at least: a counter for each unit.
const FEWEST_BITS: u32 = 8;
/// Bits of a digit at most: 4096 counters, 17 KiB of shared memory.
const MOST_BITS: u32 = 12;

/// What is sorted.
pub(super) struct Unsorted<R: CubeRuntime> {
    /// The rows that entries read, in a list a part; then the group of each row of the batch, where there are groups.
    pub(super) lists: Vec<CubeTensor<R>>,
    /// Where the second list begins, and the third.
    starts: [usize; 2],
    /// Rows of one copy of the table.
    num_rows: usize,
    /// Numbers that are sorted by: rows of the table, then groups.
    numbers: usize,
    pub(super) plan: Plan,
}

/// Where lists begin that are sorted as one.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct ListsAt {
    second: usize,
    third: usize,
    /// Added to the numbers of the third.
    base: u32,
}

/// Entries in the order of their rows, then rows of the batch in the order of their groups.
#[derive(Debug, Clone)]
pub(super) struct Sorted<R: CubeRuntime> {
    /// Row of each entry, never falling, `[N]`; then group of each row of the batch after the number of rows of the table.
    pub(super) rows: CubeTensor<R>,
    /// The entries, `[N]`, those of a row in their order; then the rows of the batch, counted on from N.
    pub(super) entries: CubeTensor<R>,
    /// Entries, N.
    pub(super) num_entries: usize,
    /// Rows of one copy of the table.
    pub(super) num_rows: usize,
}

impl<R: CubeRuntime> Unsorted<R> {
    /// The entries of a batch, all of rows below `num_rows`.
    pub(super) fn new<B: OnCube<R>>(bags: &InputBags<CubeTensor<R>, Indices<B>>, num_rows: usize) -> Self {
        let of_rows = bags.groups.as_ref().map(|groups| &groups.of_rows);
        let all: Vec<&Indices<B>> = bags.parts().map(|part| &part.slots).chain(of_rows).collect();
        let second = all[0].len();
        let third = bags.parts().map(|part| part.slots.len()).sum();
        let numbers = num_rows + bags.groups.as_ref().map_or(0, |groups| groups.bags.rows);
        let entries = all.iter().map(|list| list.len()).sum();
        Self {
            lists: all.into_iter().map(ints).collect(),
            starts: [second, third],
            num_rows,
            numbers,
            plan: Plan::new(entries, numbers),
        }
    }

    /// How the counts and the order of a batch are found again.
    pub(super) fn numbers(&self) -> usize {
        self.numbers
    }

    pub(super) fn at(&self) -> ListsAtLaunch<R> {
        let [second, third] = self.starts;
        ListsAtLaunch::new(second, third, self.num_rows as u32)
    }

    fn args(&self) -> SequenceArg<R, Array<i32>> {
        self.lists.iter().map(array).collect()
    }
}

/// How a batch is sorted: by its shape alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) entries: usize,
    pub(super) tiles: usize,
    /// Entries of a tile, whole rounds of [`UNITS`].
    pub(super) length: usize,
    passes: u32,
    pub(super) bits: u32,
}

/// How often each tile has each digit, `[tiles, digits]` a pass.
pub(super) struct Counts<R: CubeRuntime> {
    /// Of the first pass.
    pub(super) first: CubeTensor<R>,
    /// Of the later ones, which count as they go: zeros before.
    pub(super) later: CubeTensor<R>,
}

impl Plan {
    pub(super) fn new(entries: usize, num_rows: usize) -> Self {
        let wanted = (entries / TILE).clamp(1, TILES);
        let length = entries.div_ceil(wanted).next_multiple_of(UNITS as usize);
        let all_bits = usize::BITS - num_rows.saturating_sub(1).leading_zeros();
        let passes = all_bits.div_ceil(MOST_BITS).max(1);
        let bits = all_bits.div_ceil(passes).max(FEWEST_BITS);
        Self { entries, tiles: entries.div_ceil(length), length, passes, bits }
    }
}

/// Sorts the entries of a batch by their rows, all below `num_rows`, and its rows by their groups; once a batch.
pub(super) fn sorted<R: CubeRuntime, B: OnCube<R>>(
    bags: &InputBags<CubeTensor<R>, Indices<B>>,
    num_rows: usize,
) -> Sorted<R> {
    let unsorted = Unsorted::new::<B>(bags, num_rows);
    let slots = &bags.own.slots;
    let [rows, entries] = slots.sorted(unsorted.numbers(), || {
        let [first, later] = slots.counts(unsorted.numbers(), || unsorted.count().into_pair());
        unsorted.sort(&Counts { first, later })
    });
    Sorted { rows, entries, num_entries: unsorted.starts[1], num_rows }
}

impl Plan {
    /// Room for the counts, not cleared.
    pub(super) fn counts<R: CubeRuntime>(self, like: &CubeTensor<R>) -> Counts<R> {
        Counts {
            first: empty_ints(like, self.of_pass()),
            later: empty_ints(like, (self.later_passes() * self.of_pass()).max(1)),
        }
    }

    /// Counts of one pass.
    fn of_pass(self) -> usize {
        self.tiles << self.bits
    }

    pub(super) fn later_passes(self) -> usize {
        self.passes as usize - 1
    }
}

/// What a pass reads.
struct Pass<'a, R: CubeRuntime> {
    /// Numbers: in the first pass as they come, in later ones a list of what the pass before left.
    lists: &'a [CubeTensor<R>],
    at: ListsAtLaunch<R>,
    /// Entries as the pass before left them. The first one counts them itself.
    entries: &'a CubeTensor<R>,
    counts: &'a Counts<R>,
    /// From 0.
    pass: u32,
}

impl<R: CubeRuntime> Pass<'_, R> {
    /// Numbers and entries after the pass.
    fn run(self, plan: Plan) -> [CubeTensor<R>; 2] {
        let Self { lists, at, entries, counts, pass } = self;
        let [out_rows, out_entries] = [0, 1].map(|_| empty_ints(entries, plan.entries));
        let (of_this, first_count) = match pass {
            0 => (&counts.first, 0),
            _ => (&counts.later, (pass as usize - 1) * plan.of_pass()),
        };
        // SAFETY: units beyond the last entry read and write nothing; the counts of all digits are those of all entries, so
        // places are below their number, each once.
        unsafe {
            scatter_kernel::launch_unchecked(
                &entries.client,
                CubeCount::Static(plan.tiles as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                address(&[&out_rows]),
                lists.iter().map(array).collect(),
                array(entries),
                array(of_this),
                array(&counts.later),
                array(&out_rows),
                array(&out_entries),
                at,
                plan.entries,
                plan.length,
                plan.tiles,
                first_count,
                pass as usize * plan.of_pass(),
                pass * plan.bits,
                plan.bits,
                lists.len(),
                pass == 0,
                pass + 1 < plan.passes,
            );
        }
        [out_rows, out_entries]
    }
}

impl<R: CubeRuntime> Unsorted<R> {
    /// Counts for all passes, where no other launch has made them.
    fn count(&self) -> Counts<R> {
        let plan = self.plan;
        let counts = plan.counts(&self.lists[0]);
        // SAFETY: units beyond the last entry read nothing; each tile has room for its counts in every pass.
        unsafe {
            count_kernel::launch_unchecked(
                &counts.first.client,
                CubeCount::Static(plan.tiles as u32, 1, 1),
                CubeDim::new_1d(UNITS),
                address(&[&counts.first]),
                self.args(),
                array(&counts.first),
                array(&counts.later),
                self.counting(),
                self.lists.len(),
                plan.bits,
            );
        }
        counts
    }

    pub(super) fn counting(&self) -> CountingLaunch<R> {
        let Plan { entries, tiles, length, .. } = self.plan;
        CountingLaunch::new(self.at(), entries, length, tiles, self.plan.later_passes())
    }

    /// Numbers and entries in their order.
    fn sort(&self, counts: &Counts<R>) -> [CubeTensor<R>; 2] {
        let plan = self.plan;
        let lists = &self.lists;
        let first = Pass { lists, at: self.at(), entries: &lists[0], counts, pass: 0 };
        (1..plan.passes).fold(first.run(plan), |[rows, entries], pass| {
            let at = ListsAtLaunch::new(plan.entries, plan.entries, 0);
            Pass { lists: &[rows], at, entries: &entries, counts, pass }.run(plan)
        })
    }
}

/// Where no sort follows.
pub(super) fn nothing_counted<R: CubeRuntime>() -> CountingLaunch<R> {
    CountingLaunch::new(ListsAtLaunch::new(0, 0, 0), 0, 0, 0, 0)
}

impl<R: CubeRuntime> Counts<R> {
    pub(super) fn into_pair(self) -> [CubeTensor<R>; 2] {
        [self.first, self.later]
    }
}

/// A new line of integers, not cleared.
fn empty_ints<R: CubeRuntime>(like: &CubeTensor<R>, len: usize) -> CubeTensor<R> {
    let client = like.client.clone();
    let device = like.device.clone();
    let handle = client.empty(len * size_of::<i32>());
    CubeTensor::new_contiguous(client, device, Shape::from([len]), handle, DType::I32)
}

#[cube]
pub(super) fn digit_of(row: i32, shift: u32, #[comptime] bits: u32) -> usize {
    usize::cast_from((u32::cast_from(row) >> shift) & comptime!((1u32 << bits) - 1))
}

/// The number of an entry of the lists.
#[allow(clippy::if_same_then_else, reason = "the first condition is decided when the kernel is compiled")]
#[cube]
pub(super) fn number_of(
    lists: &Sequence<Array<i32>>,
    at: &ListsAt,
    entry: usize,
    #[comptime] num_lists: usize,
) -> i32 {
    if comptime!(num_lists == 1) {
        lists.index(0usize)[entry]
    } else if entry < at.second {
        lists.index(0usize)[entry]
    } else if entry < at.third {
        lists.index(1usize)[entry - at.second]
    } else {
        // The last number fits 32 bits, not 31.
        let group = u32::cast_from(lists.index(2usize)[entry - at.third]);
        i32::cast_from(group + at.base)
    }
}

/// What tiles count.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Counting {
    lists: ListsAt,
    entries: usize,
    /// Entries of a tile.
    length: usize,
    pub(super) tiles: usize,
    later_passes: usize,
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn count_kernel(
    lists: &Sequence<Array<i32>>,
    counts: &mut Array<i32>,
    later: &mut Array<i32>,
    counting: Counting,
    #[comptime] num_lists: usize,
    #[comptime] bits: u32,
) {
    count_tile(lists, counts, later, &counting, CUBE_POS_X as usize, num_lists, bits);
}

/// The lowest digits of a tile, counted; its counts of later passes, cleared.
#[cube]
pub(super) fn count_tile(
    lists: &Sequence<Array<i32>>,
    counts: &mut Array<i32>,
    later: &mut Array<i32>,
    counting: &Counting,
    tile: usize,
    #[comptime] num_lists: usize,
    #[comptime] bits: u32,
) {
    let digits = comptime!(1usize << bits);
    let units = comptime!(UNITS as usize);
    let counters = SharedMemory::<Atomic<i32>>::new(digits);
    let unit = UNIT_POS as usize;
    for digit in range_stepped(unit, digits, units) {
        counters[digit].store(0i32);
    }
    sync_cube();
    let start = tile * counting.length;
    let end = min(start + counting.length, counting.entries);
    for entry in range_stepped(start + unit, end, units) {
        let number = number_of(lists, &counting.lists, entry, num_lists);
        counters[digit_of(number, 0u32, bits)].fetch_add(1i32);
    }
    sync_cube();
    for digit in range_stepped(unit, digits, units) {
        counts[tile * digits + digit] = counters[digit].load();
        for pass in 0..counting.later_passes {
            later[(pass * counting.tiles + tile) * digits + digit] = 0i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, UNITS};

    #[test]
    fn tiles_hold_all_entries_and_digits_all_rows() {
        for entries in [1, 255, 256, 257, 4096, 8191, 8193, 98_304, 376_832, 1_507_328] {
            for num_rows in [1, 2, 257, 61_500, 1_300_000, 8_101_100, 1 << 24, (1 << 24) + 1, 1 << 31] {
                let plan = Plan::new(entries, num_rows);
                let what = format!("{plan:?} of {num_rows} rows");
                assert!(
                    plan.tiles * plan.length >= entries && (plan.tiles - 1) * plan.length < entries,
                    "{what}"
                );
                assert_eq!(plan.length % UNITS as usize, 0, "{what}");
                assert!(1_u64 << (plan.passes * plan.bits) >= num_rows as u64, "{what}");
                assert!((8..=12).contains(&plan.bits), "{what}");
            }
        }
        assert_eq!(Plan::new(1, 8_101_100).passes, 2, "two passes sort 8 million rows");
    }
}
