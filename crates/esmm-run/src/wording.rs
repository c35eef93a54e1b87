//! Numbers as people read them.

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1536` as `1.5 KiB`.
pub fn memory(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0.0004` as `0.040%`, `0.123` as `12%`: two digits that mean something.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        _ if percent == 0.0 => "0%".to_owned(),
        _ if percent >= 9.95 => format!("{percent:.0}%"),
        _ if percent >= 0.995 => format!("{percent:.1}%"),
        _ if percent >= 0.0995 => format!("{percent:.2}%"),
        _ if percent >= 0.001 => format!("{percent:.3}%"),
        _ => "below 0.001%".to_owned(),
    }
}

/// `47` as `0:47`, `3725` as `1:02:05`.
///
/// # Examples
/// ```
/// assert_eq!(esmm_run::wording::duration(47.0), "0:47");
/// assert_eq!(esmm_run::wording::duration(3725.0), "1:02:05");
/// ```
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let hours = seconds / 3600;
    let minutes = seconds / 60 % 60;
    let seconds = seconds % 60;
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        let cases = [(0, "0"), (12, "12"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")];
        cases.iter().for_each(|(number, text)| assert_eq!(grouped(*number), *text));
    }

    #[test]
    fn bytes_and_shares_and_times_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (3 << 50, "3072.0 TiB"),
        ] {
            assert_eq!(memory(bytes), text);
        }
        for (share, text) in
            [(0.0, "0%"), (0.123, "12%"), (0.05, "5.0%"), (0.0021, "0.21%"), (0.0004, "0.040%")]
        {
            assert_eq!(percent(share), text);
        }
        assert_eq!([47.2, 3725.0, -1.0].map(duration), ["0:47", "1:02:05", "0:00"]);
    }
}
