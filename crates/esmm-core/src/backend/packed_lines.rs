//! Lines of values in one piece of memory, for one upload.

use std::ops::Range;

use super::host::HostLine;

/// Bytes of a word.
const WORD: usize = size_of::<u128>();

/// Lines of values one after the other, each at a multiple of an alignment, with zeros between them: what a device gets in one
/// upload. Every value is copied once, into memory that is allocated once and not cleared before.
///
/// # Examples
/// ```
/// use esmm_core::backend::{HostLine, PackedLines};
///
/// let lines = [HostLine::Floats(vec![0.5, 1.5]), HostLine::Ints(vec![7].into())];
/// let packed = PackedLines::new(&lines, 16);
/// assert_eq!((packed.places, packed.words.len()), (vec![0..8, 16..20], 2));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PackedLines {
    /// The values of all lines as they lie in memory: in words of 16 bytes, the alignment that CubeCL asks of what it takes
    /// over without a copy.
    pub words: Vec<u128>,
    /// Bytes of each line.
    pub places: Vec<Range<usize>>,
}

impl PackedLines {
    /// Copies the lines.
    ///
    /// # Panics
    /// With an alignment that is no multiple of 16, or 0.
    pub fn new(lines: &[HostLine], alignment: usize) -> Self {
        let fits = alignment > 0 && alignment.is_multiple_of(WORD);
        assert!(fits, "an alignment of {alignment} bytes, found where a multiple of {WORD} is allowed");
        let mut end = 0;
        let place = |line: &HostLine| {
            let start = end;
            let line_end = start + bytes_of(line).len();
            end = line_end.next_multiple_of(alignment);
            start..line_end
        };
        let places: Vec<_> = lines.iter().map(place).collect();
        let mut words = Vec::with_capacity(end / WORD);
        for (line, place) in lines.iter().zip(&places) {
            words.resize(place.start / WORD, 0);
            let (whole, rest) = bytes_of(line).as_chunks::<WORD>();
            words.extend(whole.iter().map(|word| u128::from_ne_bytes(*word)));
            if !rest.is_empty() {
                let mut word = [0; WORD];
                word[..rest.len()].copy_from_slice(rest);
                words.push(u128::from_ne_bytes(word));
            }
        }
        words.resize(end / WORD, 0);
        Self { words, places }
    }
}

fn bytes_of(line: &HostLine) -> &[u8] {
    match line {
        HostLine::Matrix { values, .. } | HostLine::Floats(values) => bytemuck::cast_slice(values),
        HostLine::Ints(values) => bytemuck::cast_slice(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch's lines: cells, rows, no weights, dense values. Nothing but their bytes and the gaps between them is written, and
    /// the memory never had to grow.
    #[test]
    fn lines_are_copied_once() {
        let lines = [
            HostLine::Matrix { values: vec![1.0, 0.0, 1.0, 1.0], columns: 2 },
            HostLine::Ints(vec![3, 1 << 30, 7].into()),
            HostLine::Floats(Vec::new()),
            HostLine::Floats(vec![-2.5; 65]),
        ];
        let packed = PackedLines::new(&lines, 256);
        assert_eq!(packed.places, [0..16, 256..268, 512..512, 512..772]);
        assert_eq!((packed.words.len(), packed.words.capacity()), (64, 64));
        let bytes: &[u8] = bytemuck::cast_slice(&packed.words);
        for (line, place) in lines.iter().zip(&packed.places) {
            assert_eq!(&bytes[place.clone()], bytes_of(line));
        }
        let gaps = [16..256, 268..512, 772..1024].map(|gap| bytes[gap].iter().all(|byte| *byte == 0));
        assert_eq!(gaps, [true; 3]);
        assert!(PackedLines::new(&[], 256).words.is_empty());
    }

    #[test]
    #[should_panic(expected = "an alignment of 8 bytes")]
    fn an_alignment_below_a_word() {
        PackedLines::new(&[], 8);
    }
}
