//! Ids of features, column by column, to rows of the arena, row by row: found and checked in one pass over blocks of rows.

#[cfg(feature = "cpu-kernels")]
use multiversion::multiversion;

use crate::schema::RowRange;

/// Rows of a block: what is read and written of it stays in the cache next to the core.
const BLOCK: usize = 64;
/// Columns that are written together: one store instead of four.
const TOGETHER: usize = 4;

/// The ids of a feature, one a row, and the rows of its table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdColumn<'a> {
    /// `[B]`.
    pub(crate) ids: &'a [u32],
    /// The table's rows of the arena.
    pub(crate) table: RowRange,
}

/// The arena row of each id, `[B, F]`.
///
/// # Errors
/// The place of the first column that has an id beyond its table.
///
/// # Panics
/// When a column has fewer than `rows` ids.
pub(crate) fn place(columns: &[IdColumn<'_>], rows: usize) -> Result<Vec<u32>, usize> {
    let mut placed = vec![0; rows * columns.len()];
    if columns.is_empty() {
        return Ok(placed);
    }
    let mut largest = vec![0; columns.len()];
    place_blocks(columns, &mut placed, &mut largest);
    let is_beyond = |(column, largest): (&IdColumn<'_>, &u32)| *largest as usize >= column.table.len;
    match columns.iter().zip(&largest).position(is_beyond) {
        Some(column) if rows > 0 => Err(column),
        Some(_) | None => Ok(placed),
    }
}

/// `largest` becomes that of each column; where one is beyond its table, what is placed means nothing.
#[cfg_attr(
    feature = "cpu-kernels",
    multiversion(targets(
        "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+bmi2+fma",
        "x86_64+avx2+bmi2+fma"
    ))
)]
fn place_blocks(columns: &[IdColumn<'_>], placed: &mut [u32], largest: &mut [u32]) {
    let width = columns.len();
    for (block, placed) in placed.chunks_mut(BLOCK * width).enumerate() {
        let rows = block * BLOCK..block * BLOCK + placed.len() / width;
        let groups = columns.chunks(TOGETHER).zip(largest.chunks_mut(TOGETHER)).enumerate();
        for (group, (columns, largest)) in groups {
            for (column, largest) in columns.iter().zip(largest) {
                *largest = column.ids[rows.clone()].iter().fold(*largest, |most, id| most.max(*id));
            }
            let placed = &mut placed[group * TOGETHER..];
            let start = |column: &IdColumn<'_>| column.table.start as u32;
            if let [a, b, c, d] = columns {
                let starts = [a, b, c, d].map(start);
                let [a, b, c, d] = [a, b, c, d].map(|column| &column.ids[rows.clone()]);
                let ids = a.iter().zip(b).zip(c).zip(d);
                for (row, (((a, b), c), d)) in placed.chunks_mut(width).zip(ids) {
                    let ids = [*a, *b, *c, *d];
                    let four: [u32; TOGETHER] = std::array::from_fn(|at| ids[at].wrapping_add(starts[at]));
                    row[..TOGETHER].copy_from_slice(&four);
                }
            } else {
                for (place, column) in columns.iter().enumerate() {
                    let start = start(column);
                    let placed = placed[place..].iter_mut().step_by(width);
                    for (placed, id) in placed.zip(&column.ids[rows.clone()]) {
                        *placed = id.wrapping_add(start);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any number of columns, and rows around those of a block.
    #[test]
    fn every_id_has_its_row() {
        for features in [1, 3, 4, 5, 8, 23] {
            for rows in [0, 1, 63, 64, 65, 200] {
                let ids: Vec<Vec<u32>> = (0..features)
                    .map(|feature| (0..rows).map(|row| (row * 7 + feature * 3) as u32 % 10).collect())
                    .collect();
                let columns: Vec<_> = ids
                    .iter()
                    .enumerate()
                    .map(|(feature, ids)| IdColumn { ids, table: RowRange { start: 10 * feature, len: 10 } })
                    .collect();
                let expected: Vec<u32> = (0..rows)
                    .flat_map(|row| {
                        ids.iter().enumerate().map(move |(feature, ids)| ids[row] + 10 * feature as u32)
                    })
                    .collect();
                assert_eq!(place(&columns, rows), Ok(expected), "{rows} rows of {features}");
            }
        }
    }

    #[test]
    fn the_first_column_with_an_id_beyond_is_named() {
        let mut ids = vec![vec![9; 130]; 6];
        ids[4][128] = 10;
        ids[5][0] = u32::MAX;
        let columns: Vec<_> =
            ids.iter().map(|ids| IdColumn { ids, table: RowRange { start: 5, len: 10 } }).collect();
        assert_eq!(place(&columns, 130), Err(4));
        assert_eq!(place(&columns[5..], 130), Err(0));
        assert!(place(&columns[..4], 130).is_ok());
    }
}
