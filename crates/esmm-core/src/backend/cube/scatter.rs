//! A pass of the sort: the entries of a tile, put where the counts of all tiles say.
//!
//! A tile places 256 entries a round. Groups of 32 units find by comparing which of their entries share a digit and how many
//! of these come before; then the groups take places in turn.

use burn_cubecl::cubecl::{self, prelude::*};

use super::sort::{ListsAt, UNITS, digit_of, number_of};

/// Units that rank their entries among each other: a plane of most GPUs.
const GROUP: usize = 32;

/// The entries of a tile, put where all tiles' counts say.
#[allow(clippy::collapsible_if, reason = "the outer condition is decided when the kernel is compiled")]
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn scatter_kernel(
    lists: &Sequence<Array<i32>>,
    from: &Array<i32>,
    counts: &Array<i32>,
    later: &mut Array<Atomic<i32>>,
    out_rows: &mut Array<i32>,
    out_entries: &mut Array<i32>,
    at: ListsAt,
    entries: usize,
    length: usize,
    tiles: usize,
    first_count: usize,
    next_count: usize,
    shift: u32,
    #[comptime] bits: u32,
    #[comptime] num_lists: usize,
    #[comptime] is_first: bool,
    #[comptime] counts_next: bool,
) {
    let digits = comptime!(1usize << bits);
    let units = comptime!(UNITS as usize);
    let mut offsets = SharedMemory::<i32>::new(comptime!(word_of(1usize << bits)));
    let mut round_digits = SharedMemory::<u32>::new(units);
    let mut bases = SharedMemory::<i32>::new(units);
    let unit = UNIT_POS as usize;
    let tile = CUBE_POS_X as usize;
    begin_of_digits(counts, &mut offsets, tile, tiles, first_count, bits);

    let group = unit / GROUP;
    let first_of_group = group * GROUP;
    let start = tile * length;
    let end = min(start + length, entries);
    let mut row = 0i32;
    if start + unit < end {
        row = number_of(lists, &at, start + unit, num_lists);
    }
    for round in 0..length / units {
        let entry = start + round * units + unit;
        let exists = entry < end;
        let digit = digit_of(row, shift, bits);
        // No digit, where there is no entry.
        let shown = select(exists, u32::cast_from(digit), 0xffff_ffffu32);
        round_digits[unit] = shown;
        // The next round's row is on its way while this one's are ranked.
        let mut next_row = 0i32;
        if entry + units < end {
            next_row = number_of(lists, &at, entry + units, num_lists);
        }
        let mut source = i32::cast_from(entry);
        if comptime!(!is_first) {
            if exists {
                source = from[entry];
            }
        }
        sync_cube();
        // Entries keep their order: those of the same digit before this one in the group go first.
        let mut rank = 0i32;
        let mut last = unit;
        #[unroll]
        for index in 0..GROUP {
            let other = first_of_group + index;
            let same = round_digits[other] == shown;
            rank += select(same && other < unit, 1i32, 0i32);
            last = select(same, other, last);
        }
        // The groups take places one after the other; the last of a digit takes them for its group.
        #[unroll]
        for turn in 0..comptime!(UNITS as usize / GROUP) {
            if group == turn && exists && last == unit {
                let word = word_of(digit);
                let base = offsets[word];
                bases[unit] = base;
                offsets[word] = base + rank + 1i32;
            }
            sync_cube();
        }
        if exists {
            let place = usize::cast_from(bases[last] + rank);
            out_rows[place] = row;
            out_entries[place] = source;
            if comptime!(counts_next) {
                let next_digit = digit_of(row, shift + bits, bits);
                later[next_count + place / length * digits + next_digit].fetch_add(1i32);
            }
        }
        row = next_row;
    }
}

/// Where the entries of each digit of this tile go: after those of lower digits, and those of tiles before it.
#[cube]
fn begin_of_digits(
    counts: &Array<i32>,
    offsets: &mut SharedMemory<i32>,
    tile: usize,
    tiles: usize,
    first_count: usize,
    #[comptime] bits: u32,
) {
    let digits = comptime!(1usize << bits);
    let units = comptime!(UNITS as usize);
    let each = comptime!((1usize << bits) / UNITS as usize);
    let unit = UNIT_POS as usize;
    let mut sums = SharedMemory::<i32>::new(units);

    // Neighbouring units read neighbouring counts: a unit has every 256th digit.
    let mut totals = Array::<i32>::new(each);
    let mut befores = Array::<i32>::new(each);
    #[unroll]
    for index in 0..each {
        totals[index] = 0i32;
        befores[index] = 0i32;
    }
    for other in 0..tiles {
        let is_before = other < tile;
        let first = first_count + other * digits + unit;
        #[unroll]
        for index in 0..each {
            let count = counts[first + index * units];
            totals[index] += count;
            befores[index] += select(is_before, count, 0i32);
        }
    }
    #[unroll]
    for index in 0..each {
        offsets[word_of(unit + index * units)] = totals[index];
    }
    sync_cube();

    // Digits are added up in their order: here a unit has neighbouring ones.
    let mut own = 0i32;
    #[unroll]
    for index in 0..each {
        let word = word_of(unit * each + index);
        let total = offsets[word];
        offsets[word] = own;
        own += total;
    }
    sums[unit] = own;
    sync_cube();
    #[unroll]
    for step in 0..8u32 {
        let distance = comptime!(1usize << step);
        let mut below = 0i32;
        if unit >= distance {
            below = sums[unit - distance];
        }
        sync_cube();
        sums[unit] += below;
        sync_cube();
    }
    let base = sums[unit] - own;
    #[unroll]
    for index in 0..each {
        offsets[word_of(unit * each + index)] += base;
    }
    sync_cube();
    #[unroll]
    for index in 0..each {
        offsets[word_of(unit + index * units)] += befores[index];
    }
    sync_cube();
}

/// The word of shared memory that a digit has: a gap after 16 digits, so that units that read every 16th word do not wait for
/// each other.
#[cube]
fn word_of(digit: usize) -> usize {
    digit + digit / 16
}
