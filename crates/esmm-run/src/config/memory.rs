//! Amounts of memory as a person types them: `4GiB`, `512 MiB`, `1.5GB`.

use super::refuse::refuse;
use crate::error::RunError;

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Bytes of an amount.
///
/// # Errors
/// Anything but a positive number and a unit.
pub(super) fn bytes(key: &str, text: &str) -> Result<u64, RunError> {
    let amount = UNITS.iter().find_map(|(unit, size)| {
        let number = text.trim().strip_suffix(unit)?.trim_end();
        let amount = number.parse::<f64>().ok()? * *size as f64;
        (amount >= 1.0 && amount < u64::MAX as f64).then_some(amount as u64)
    });
    match amount {
        Some(amount) => Ok(amount),
        None => refuse(key, format!("\"{text}\""), "a number with a unit, such as 4GiB, 512MiB or 10GB"),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn units_are_what_they_say() {
        let amounts = [("4GiB", 4 << 30), (" 1.5 MiB ", 3 << 19), ("2kB", 2000), ("0.5TB", 500_000_000_000)];
        for (text, expected) in amounts {
            assert_eq!(bytes("data.memory", text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in ["4", "GiB", "-1GiB", "0B", "1 gib", "nanMB", "1e30TB"] {
            let error = bytes("data.memory", text).unwrap_err();
            assert!(error.is_usage());
            let expected = format!("data.memory = \"{text}\": a number with a unit, such as 4GiB");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}
