//! A fast hasher for maps that are keyed by numbers and texts of the user's own data.

use std::hash::{BuildHasherDefault, Hasher};

use twox_hash::XxHash64;

/// Builds [`KeyHasher`]s.
pub(crate) type KeyHash = BuildHasherDefault<KeyHasher>;

/// xxHash64 for texts, the SplitMix64 finalizer (Steele, Lea and Flood 2014) for numbers.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = XxHash64::oneshot(self.0, bytes);
    }

    /// The end mark of a text: nothing to add to a single text.
    #[inline]
    fn write_u8(&mut self, _: u8) {}

    #[inline]
    fn write_i64(&mut self, number: i64) {
        let mut mixed = self.0.wrapping_add(number as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.0 = mixed ^ (mixed >> 31);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
