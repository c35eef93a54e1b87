//! Numbers on the command line. What is out of range is refused with the range: clap takes `-1` for a flag, unless an argument
//! allows negative numbers.

/// Of numbers that have no end.
pub(super) const MAX: u64 = u64::MAX;

/// A whole number from `LEAST` to `MOST`.
pub(super) fn whole<T: TryFrom<u64>, const LEAST: u64, const MOST: u64>(text: &str) -> Result<T, String> {
    let number = text.parse::<u64>().ok().filter(|number| (LEAST..=MOST).contains(number));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| match MOST {
        MAX => format!("it must be a whole number, at least {LEAST}"),
        _ => format!("it must be a whole number from {LEAST} to {MOST}"),
    })
}

/// A whole number of threads. Each takes a stack, and thousands of them minutes to start.
pub(super) fn threads(text: &str) -> Result<u16, String> {
    whole::<u16, 1, 1024>(text)
}

/// A number.
pub(super) fn real(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .ok_or_else(|| "it must be a number".to_owned())
}

/// A number above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    real(text).ok().filter(|number| *number > 0.0).ok_or_else(|| "it must be a number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_answered_with_the_range() {
        assert_eq!(whole::<usize, 1, MAX>("7"), Ok(7));
        for text in ["0", "-1", "1.5", "x", ""] {
            let said = whole::<usize, 1, MAX>(text).unwrap_err();
            assert_eq!(said, "it must be a whole number, at least 1", "{text}");
            assert_eq!(threads(text).unwrap_err(), "it must be a whole number from 1 to 1024", "{text}");
        }
        assert!(whole::<u64, 1, 20>("21").is_err() && whole::<u64, 1, 20>("20").is_ok());
        assert!(positive("0").is_err() && positive("inf").is_err() && positive("1e-3").is_ok());
        assert!(real("-1").is_ok() && real("one").is_err());
    }
}
