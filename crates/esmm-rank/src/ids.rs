//! The ids of a catalogue: texts by their places, and places by their texts.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use crate::aligned::Aligned;
use crate::prefetch::prefetch_value;

/// Distinct texts, one after the other in one piece of memory, with a hash table of their places.
#[derive(Debug)]
pub(crate) struct Ids {
    text: String,
    /// Where each id ends in `text`.
    ends: Vec<usize>,
    /// A power of two, at least twice as many as ids: the upper half of an id's hash, and one more than its place; 0 where there
    /// is none. An id stands at the lower bits of its hash, or at the next free slot after that.
    slots: Aligned<u64>,
    hasher: RandomState,
}

/// Ids that are looked up together. A catalogue is larger than the caches, and an id by itself waits for memory three times:
/// for its slot, for its place in the text, for the text. Of many together these are asked for ahead.
///
/// # Examples
/// ```
/// # fn find(catalogue: &esmm_rank::Catalogue) {
/// let mut lookup = esmm_rank::Lookup::default();
/// lookup.push("i4");
/// lookup.push("i9");
/// catalogue.find(&mut lookup);
/// let places: Vec<Option<u32>> = lookup.places().collect();
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Lookup {
    text: String,
    ends: Vec<usize>,
    hashes: Vec<u64>,
    /// One more than the place; 0 where there is none.
    places: Vec<u32>,
}

impl Lookup {
    /// Forgets all ids; the memory stays.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.places.clear();
    }

    /// Adds an id.
    pub fn push(&mut self, id: &str) {
        self.text.push_str(id);
        self.ends.push(self.text.len());
    }

    /// Number of ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no id.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The ids, in the order in which they were added.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }

    /// What [`Catalogue::find`](crate::Catalogue::find) found, one an id.
    pub fn places(&self) -> impl Iterator<Item = Option<u32>> + '_ {
        self.places.iter().map(|place| place.checked_sub(1))
    }
}

impl Default for Ids {
    fn default() -> Self {
        let slots = Aligned::filled(16, 0);
        Self { text: String::new(), ends: Vec::new(), slots, hasher: RandomState::default() }
    }
}

impl Ids {
    /// Number of ids.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The id at a place.
    #[inline]
    pub(crate) fn get(&self, place: u32) -> Option<&str> {
        let end = *self.ends.get(place as usize)?;
        Some(&self.text[self.start(place)..end])
    }

    #[inline]
    fn start(&self, place: u32) -> usize {
        match place {
            0 => 0,
            _ => self.ends[place as usize - 1],
        }
    }

    /// The place of an id.
    pub(crate) fn place(&self, id: &str) -> Option<u32> {
        self.probe(self.hasher.hash_one(id), |place| self.get(place) == Some(id))
    }

    /// The first place in the slots of a hash that fits.
    #[inline]
    fn probe(&self, hash: u64, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            let place = (slot as u32).checked_sub(1)?;
            if slot >> 32 == hash >> 32 && fits(place) {
                return Some(place);
            }
            at = (at + 1) & mask;
        }
    }

    /// Looks many ids up.
    pub(crate) fn find(&self, lookup: &mut Lookup) {
        let mask = self.slots.len() - 1;
        let mut hashes = std::mem::take(&mut lookup.hashes);
        let mut places = std::mem::take(&mut lookup.places);
        hashes.clear();
        hashes.extend(lookup.ids().map(|id| {
            let hash = self.hasher.hash_one(id);
            prefetch_value(&self.slots[hash as usize & mask]);
            hash
        }));
        places.clear();
        places.extend(hashes.iter().map(|hash| {
            // Nearly always the right one: that is seen below.
            let Some(place) = self.probe(*hash, |_| true) else { return 0 };
            prefetch_value(&self.ends[place as usize]);
            place + 1
        }));
        for place in &places {
            if let Some(place) = place.checked_sub(1)
                && let Some(first) = self.text.as_bytes().get(self.start(place))
            {
                prefetch_value(first);
            }
        }
        for ((id, hash), found) in lookup.ids().zip(&hashes).zip(&mut places) {
            if let Some(place) = found.checked_sub(1)
                && self.get(place) != Some(id)
            {
                let fits = |place| self.get(place) == Some(id);
                *found = self.probe(*hash, fits).map_or(0, |place| place + 1);
            }
        }
        lookup.hashes = hashes;
        lookup.places = places;
    }

    /// Appends an id; `false`, and nothing happens, where it is there already.
    ///
    /// # Panics
    /// When there are 2^32 - 1 ids.
    pub(crate) fn push(&mut self, id: &str) -> bool {
        if self.place(id).is_some() {
            return false;
        }
        assert!(self.len() < u32::MAX as usize, "at most {} ids", u32::MAX);
        self.text.push_str(id);
        self.ends.push(self.text.len());
        if self.len() * 2 > self.slots.len() {
            self.fill(self.slots.len() * 2);
        } else {
            self.enter((self.len() - 1) as u32);
        }
        true
    }

    /// Forgets the last ones: `len` are left.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.ends.truncate(len);
            self.text.truncate(self.ends.last().copied().unwrap_or_default());
            self.fill(self.slots.len());
        }
    }

    /// Enters all ids into slots of their own.
    fn fill(&mut self, slots: usize) {
        self.slots = Aligned::filled(slots, 0);
        (0..self.len() as u32).for_each(|place| self.enter(place));
    }

    fn enter(&mut self, place: u32) {
        let hash = self.hasher.hash_one(self.get(place).unwrap_or_default());
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = (hash >> 32 << 32) | u64::from(place + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> String {
        format!("item-{}", number * 7919 % 10_007)
    }

    #[test]
    fn ids_are_found_by_place_and_by_text_and_forgotten_again() {
        let mut ids = Ids::default();
        for number in 0..5000 {
            assert!(ids.push(&name(number)));
        }
        assert!(!ids.push(&name(17)));
        ids.truncate(3000);
        ids.truncate(4000);
        assert_eq!(ids.len(), 3000);
        let mut lookup = Lookup::default();
        for number in 0..5000 {
            let expected = (number < 3000).then_some(number);
            assert_eq!(ids.place(&name(number)), expected, "{number}");
            assert_eq!(ids.get(number), expected.map(name).as_deref(), "{number}");
            lookup.push(&name(number));
        }
        ids.find(&mut lookup);
        let expected: Vec<Option<u32>> = (0..5000).map(|number| (number < 3000).then_some(number)).collect();
        assert_eq!(lookup.places().collect::<Vec<_>>(), expected);
        assert!(ids.push(&name(4000)) && ids.place(&name(4000)) == Some(3000));
        assert!(ids.place("").is_none() && ids.push("") && ids.place("") == Some(3001));
        lookup.clear();
        assert!(lookup.is_empty());
        lookup.push("");
        ids.find(&mut lookup);
        assert_eq!((lookup.len(), lookup.places().next()), (1, Some(Some(3001))));
    }

    /// Ids whose tags are equal: the text decides.
    #[test]
    fn equal_hashes_are_told_apart() {
        let mut ids = Ids::default();
        ["a", "b", "c"].iter().for_each(|id| assert!(ids.push(id)));
        // All three under the hash of the last.
        let hash = ids.hasher.hash_one("c");
        ids.slots = Aligned::filled(16, 0);
        for place in 0..3 {
            let at = (hash as usize + place) & 15;
            ids.slots[at] = (hash >> 32 << 32) | (place as u64 + 1);
        }
        let mut lookup = Lookup::default();
        lookup.push("c");
        ids.find(&mut lookup);
        assert_eq!((ids.place("c"), lookup.places().next()), (Some(2), Some(Some(2))));
    }
}
