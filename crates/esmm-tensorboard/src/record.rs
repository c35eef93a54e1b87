//! How records lie in an event file (TFRecord): length, checksum of the length, payload, checksum of the payload.

/// Bytes around a payload.
#[cfg(test)]
const OVERHEAD: usize = 16;
/// Added to a rotated checksum, so that a checksum of bytes that hold checksums does not degenerate.
const MASK: u32 = 0xa282_ead8;

/// Appends a payload with its frame.
pub(crate) fn append(out: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(&masked_crc(payload).to_le_bytes());
}

/// CRC-32C, rotated and shifted.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK)
}

/// The payloads of a file's bytes, and the bytes that are left after the last whole record.
pub(crate) fn read(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut payloads = Vec::new();
    while let Some((payload, rest)) = split(bytes) {
        payloads.push(payload);
        bytes = rest;
    }
    (payloads, bytes)
}

/// The first record's payload and what follows it; `None` for half a record or a wrong checksum.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (payload, rest) = rest.split_at_checked(size)?;
    let (after, rest) = rest.split_first_chunk::<4>()?;
    let whole = u32::from_le_bytes(*checksum) == masked_crc(length)
        && u32::from_le_bytes(*after) == masked_crc(payload);
    whole.then_some((payload, rest))
}

#[cfg(test)]
mod tests {
    use super::{MASK, OVERHEAD, append, masked_crc, read};

    /// RFC 3720, appendix B.4: CRC-32C of 32 bytes of zeros, of ones, rising and falling.
    #[test]
    fn checksums_of_rfc_3720() {
        let rising: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..32).rev().collect();
        let vectors: [(&[u8], u32); 4] = [
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&rising, 0x46dd_794e),
            (&falling, 0x113f_db5c),
        ];
        for (bytes, crc) in vectors {
            assert_eq!(masked_crc(bytes), crc.rotate_right(15).wrapping_add(MASK));
            assert_eq!(crc32c::crc32c(bytes), crc);
        }
    }

    #[test]
    fn records_go_both_ways() {
        let long = vec![7; 70_000];
        let payloads: [&[u8]; 3] = [b"", b"a", &long];
        let mut file = Vec::new();
        payloads.iter().for_each(|payload| append(&mut file, payload));
        assert_eq!(file.len(), 70_001 + 3 * OVERHEAD);
        assert_eq!(read(&file), (payloads.to_vec(), &[][..]));
    }

    #[test]
    fn half_a_record_and_a_changed_byte_are_seen() {
        let mut file = Vec::new();
        append(&mut file, b"first");
        let first = file.len();
        append(&mut file, b"second");
        for end in first..file.len() {
            assert_eq!(read(&file[..end]).0, [b"first"], "{end} bytes");
        }
        for byte in first..file.len() {
            file[byte] ^= 1;
            assert_eq!(read(&file).0, [b"first"], "byte {byte}");
            file[byte] ^= 1;
        }
    }
}
