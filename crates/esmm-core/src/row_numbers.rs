//! Numbers for the distinct table rows of a batch, without hashing.

use crate::schema::RowRange;

/// Ids whose stamps are read before they are used, so that the processor waits for all of them at once.
const AHEAD: usize = 32;

/// One stamp a table row.
#[derive(Debug, Clone)]
pub(crate) struct RowNumbers {
    /// `base + number` of a row that this batch has seen; less than `base` for all others.
    stamps: Vec<u32>,
    base: u32,
    next: u32,
}

impl RowNumbers {
    /// For arenas of `rows` rows.
    pub(crate) fn new(rows: usize) -> Self {
        Self { stamps: vec![0; rows], base: 1, next: 1 }
    }

    /// Forgets the batch before; the next one has `ids` ids. When the numbers run out, all stamps are cleared.
    pub(crate) fn start_batch(&mut self, ids: usize) {
        if u32::MAX as usize - self.next as usize <= ids {
            self.stamps.fill(0);
            self.next = 1;
        }
        self.base = self.next;
    }

    /// Appends the number of each id's row to `numbers`, and rows that are new in this batch to `touched`.
    ///
    /// # Panics
    /// When an id is beyond the table.
    pub(crate) fn number(
        &mut self,
        table: RowRange,
        ids: &[u32],
        touched: &mut Vec<u32>,
        numbers: &mut Vec<u32>,
    ) {
        let stamps = &mut self.stamps[table.start..][..table.len];
        for ids in ids.chunks(AHEAD) {
            let mut found = [0; AHEAD];
            for (found, &id) in found.iter_mut().zip(ids) {
                *found = stamps[id as usize];
            }
            for (&found, &id) in found.iter().zip(ids) {
                let mut stamp = found;
                if stamp < self.base {
                    let newest = &mut stamps[id as usize];
                    if *newest < self.base {
                        *newest = self.next;
                        self.next += 1;
                        touched.push((table.start + id as usize) as u32);
                    }
                    stamp = *newest;
                }
                numbers.push(stamp - self.base);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_end_of_u32() {
        let mut numbers = RowNumbers::new(3);
        numbers.next = u32::MAX - 5;
        for _ in 0..4 {
            numbers.start_batch(4);
            let mut touched = Vec::new();
            let mut found = Vec::new();
            numbers.number(RowRange { start: 1, len: 2 }, &[1, 0, 1, 0], &mut touched, &mut found);
            assert_eq!((touched, found), (vec![2, 1], vec![0, 1, 0, 1]));
        }
    }
}
