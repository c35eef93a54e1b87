//! One feature, `field\x02id\x03value`, in one walk over its bytes.

use crate::field::find;

/// Between features.
pub(crate) const NEXT: u8 = 1;
/// Between field and id.
pub(crate) const ID: u8 = 2;
/// Between id and value.
pub(crate) const VALUE: u8 = 3;

/// The byte at a place; after the end the one that ends a feature.
#[inline]
fn byte(list: &[u8], at: usize) -> u8 {
    list.get(at).copied().unwrap_or(NEXT)
}

/// A feature in one walk: field, id, value, and where it ends. `None` when anything about it is unusual.
#[inline]
pub(crate) fn token(list: &[u8], start: usize) -> Option<(usize, i32, f32, usize)> {
    let (number, mut at) = digits(list, start, 3)?;
    let in_14_days = byte(list, at) == b'_';
    if in_14_days {
        if list.get(at + 1..at + 3)? != b"14" {
            return None;
        }
        at += 3;
    }
    let field = (byte(list, at) == ID).then(|| find(number as usize, in_14_days)).flatten()?;
    let (id, at) = digits(list, at + 1, 10)?;
    let id = (byte(list, at) == VALUE).then(|| i32::try_from(id).ok()).flatten()?;
    let (weight, end) = decimal(list, at + 1).or_else(|| any_number(list, at + 1))?;
    Some((field, id, weight, end))
}

#[inline]
fn digits(list: &[u8], start: usize, most: usize) -> Option<(u64, usize)> {
    let mut number = 0_u64;
    let mut at = start;
    while let digit @ b'0'..=b'9' = byte(list, at) {
        number = number * 10 + u64::from(digit - b'0');
        at += 1;
        if at - start > most {
            return None;
        }
    }
    (at > start).then_some((number, at))
}

/// Powers of ten that a 32-bit float holds exactly.
const POWERS: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];

/// Digits with at most one point, up to 2^24 without it: then the quotient of two exact floats is the nearest float to
/// the decimal number (Clinger 1990).
#[inline]
fn decimal(list: &[u8], start: usize) -> Option<(f32, usize)> {
    let mut mantissa = 0_u64;
    let mut at = start;
    let mut point = None;
    loop {
        match byte(list, at) {
            digit @ b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(digit - b'0'),
            b'.' if point.is_none() => point = Some(at),
            NEXT => break,
            _ => return None,
        }
        at += 1;
        if at - start > 11 {
            return None;
        }
    }
    let scale = point.map_or(0, |point| at - point - 1);
    let digits = at - start - usize::from(point.is_some());
    (digits > 0 && mantissa <= 1 << 24).then(|| (mantissa as f32 / POWERS[scale], at))
}

/// Any other number that is finite and not negative.
#[cold]
fn any_number(list: &[u8], start: usize) -> Option<(f32, usize)> {
    let end = list[start..].iter().position(|byte| *byte == NEXT).map_or(list.len(), |length| start + length);
    let value: f32 = std::str::from_utf8(&list[start..end]).ok()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((value, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_the_nearest_floats() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let whole = state >> 60;
            let fraction = state >> 40 & 0xF_FFFF;
            for text in [format!("{whole}.{fraction}"), format!("0.{fraction}"), format!("{fraction}")] {
                let (value, end) = token_value(&text);
                assert_eq!((value, end), (text.parse::<f32>().unwrap(), text.len()), "{text}");
            }
        }
        for text in
            ["1.0", "1", ".5", "5.", "1e-3", "+2", "16777217", "0.1234567890123", "340282350000000000000"]
        {
            assert_eq!(token_value(text).0, text.parse::<f32>().unwrap(), "{text}");
        }
        for text in ["", ".", "-1", "nan", "inf", "1e99", "1.0.0", "1,0", "a"] {
            assert!(
                decimal(text.as_bytes(), 0).or_else(|| any_number(text.as_bytes(), 0)).is_none(),
                "{text}"
            );
        }
    }

    fn token_value(text: &str) -> (f32, usize) {
        decimal(text.as_bytes(), 0).or_else(|| any_number(text.as_bytes(), 0)).unwrap()
    }
}
