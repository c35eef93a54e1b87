//! Amounts of memory as a person types them: `4GiB`, `512 MiB`, `1.5GB`.

use super::refuse::refuse;
use crate::error::RunError;

/// Units in lower case, and what a number without one is.
const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
];

/// The bytes of an amount of memory: a number, and a unit in any case. A number alone counts bytes. `None` of anything else, of
/// less than one byte, and of more than 64 bits count.
///
/// # Examples
/// ```
/// use esmm_run::config::memory_amount;
///
/// assert_eq!(memory_amount("4GiB"), Some(4 << 30));
/// assert_eq!(memory_amount("1.5 gb"), Some(1_500_000_000));
/// assert_eq!(memory_amount("4 parsecs"), None);
/// ```
pub fn memory_amount(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, size) = UNITS.iter().find(|(name, _)| *name == unit)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*size).filter(|bytes| *bytes > 0);
    }
    let bytes = number.parse::<f64>().ok()? * *size as f64;
    (bytes >= 1.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// Bytes of an amount with a unit.
///
/// # Errors
/// Anything but a positive number and a unit: a number alone is likely to mean something else than bytes.
pub(super) fn bytes(key: &str, text: &str) -> Result<u64, RunError> {
    let has_unit = text.trim_end().ends_with(|letter: char| letter.is_ascii_alphabetic());
    match memory_amount(text).filter(|_| has_unit) {
        Some(amount) => Ok(amount),
        None => refuse(key, format!("\"{text}\""), "a number with a unit, such as 4GiB, 512MiB or 10GB"),
    }
}

#[cfg(test)]
mod tests {
    use super::{UNITS, bytes, memory_amount};

    #[test]
    fn units_are_what_they_say() {
        let amounts = [
            ("4GiB", 4 << 30),
            (" 1.5 MiB ", 3 << 19),
            ("500mib", 500 << 20),
            ("2kB", 2000),
            ("0.5TB", 500_000_000_000),
            ("18446744073709551615b", u64::MAX),
        ];
        for (text, expected) in amounts {
            assert_eq!(bytes("data.memory", text).unwrap(), expected, "{text}");
        }
        for (unit, size) in UNITS {
            let text = format!("3 {}", unit.to_ascii_uppercase());
            assert_eq!(memory_amount(&text), Some(3 * size), "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in
            ["", "GiB", "-1GiB", "0B", "4 parsecs", "nanMB", "1e30TB", "99999999999TiB", ".B", "1.2.3GB"]
        {
            assert_eq!(memory_amount(text), None, "{text}");
        }
        for text in ["4", "1073741824", "-1GiB", "0B"] {
            let error = bytes("data.memory", text).unwrap_err();
            assert!(error.is_usage());
            let expected = format!("data.memory = \"{text}\": a number with a unit, such as 4GiB");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}
