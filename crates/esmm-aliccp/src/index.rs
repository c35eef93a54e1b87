//! Common indices and their groups: the one thing that grows with the number of users.

use hashbrown::HashTable;
use twox_hash::XxHash64;

/// Numbers common indices in the order in which they come. Takes their bytes and about 20 more for each.
#[derive(Debug, Default)]
pub(crate) struct GroupIndex {
    table: HashTable<u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl GroupIndex {
    /// Number of common indices.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The group of a common index, a new one if it has none.
    pub(crate) fn number(&mut self, index: &[u8]) -> u32 {
        let hash = hash(index);
        let Self { table, bytes, ends } = self;
        if let Some(group) = table.find(hash, |group| key(bytes, ends, *group) == index) {
            return *group;
        }
        let group = ends.len() as u32;
        bytes.extend_from_slice(index);
        ends.push(bytes.len());
        table.insert_unique(hash, group, |group| self::hash(key(bytes, ends, *group)));
        group
    }

    /// The group of a common index, if it has one.
    pub(crate) fn find(&self, index: &[u8]) -> Option<u32> {
        self.table.find(hash(index), |group| self.key(*group) == index).copied()
    }

    /// The common index of a group.
    pub(crate) fn key(&self, group: u32) -> &[u8] {
        key(&self.bytes, &self.ends, group)
    }
}

fn hash(index: &[u8]) -> u64 {
    XxHash64::oneshot(0, index)
}

fn key<'a>(bytes: &'a [u8], ends: &[usize], group: u32) -> &'a [u8] {
    let group = group as usize;
    let start = if group == 0 { 0 } else { ends[group - 1] };
    &bytes[start..ends[group]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_by_first_use() {
        let mut index = GroupIndex::default();
        let keys: Vec<String> = (0..10_000).map(|number| format!("{:x}", number * 7919 % 5000)).collect();
        let numbers: Vec<u32> = keys.iter().map(|key| index.number(key.as_bytes())).collect();
        assert_eq!(index.len(), 5000);
        assert!(numbers[..5000].iter().copied().eq(0..5000));
        for (key, number) in keys.iter().zip(&numbers) {
            assert_eq!(index.find(key.as_bytes()), Some(*number));
            assert_eq!(index.key(*number), key.as_bytes());
        }
        assert_eq!(index.find(b"none"), None);
    }
}
