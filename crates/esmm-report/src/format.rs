//! Numbers as people read them.

/// What stands for a value that is not there.
pub(crate) const NONE: &str = "–";

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A metric, with four decimals as everywhere.
pub(crate) fn metric(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.4}"))
}

/// An interval of a metric.
pub(crate) fn interval(interval: Option<[f64; 2]>) -> String {
    interval.map_or_else(|| NONE.to_owned(), |[low, high]| format!("{low:.4} – {high:.4}"))
}

/// A ratio near 1.
pub(crate) fn ratio(value: Option<f64>) -> String {
    match value {
        None => NONE.to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// A probability in percent, with three digits that count: `20.1%`, `0.0213%`.
pub(crate) fn percent(share: f64) -> String {
    if share == 0.0 {
        return "0%".to_owned();
    }
    format!("{}%", significant(100.0 * share, 3))
}

/// A number with so many digits that count, without zeros after the point.
pub(crate) fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let decimals = (digits - 1 - value.abs().log10().floor() as i32).clamp(0, 12);
    let text = format!("{value:.*}", decimals as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// An expected number of events: `10,453`, `12.3`.
pub(crate) fn expected(value: f64) -> String {
    if value >= 1000.0 { grouped(value.round() as u64) } else { significant(value, 3) }
}

/// A large number on an axis: `40k`, `1.5M`.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{}G", significant(value / 1e9, 3)),
        size if size >= 1e6 => format!("{}M", significant(value / 1e6, 3)),
        size if size >= 1e4 => format!("{}k", significant(value / 1e3, 3)),
        _ => significant(value, 3),
    }
}

/// `7.3 s`, `12 min 5 s`, `3 h 20 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Seconds since 1970 as `2026-11-24 05:36 UTC`.
pub(crate) fn date(unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400;
    let second = unix_seconds % 86_400;
    let (year, month, day) = civil(days as i64);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3600, second % 3600 / 60)
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar: years that begin in March have
/// their leap day at the end.
fn civil(days: i64) -> (i64, i64, i64) {
    const CYCLE: i64 = 146_097; // days of 400 years
    let from_march_0 = days + 719_468;
    let era = from_march_0.div_euclid(CYCLE);
    let day = from_march_0.rem_euclid(CYCLE);
    let year = (day - day / 1460 + day / 36_524 - day / (CYCLE - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, date)
}

/// A task as people call it: `CTR`, or the stages' own names.
pub(crate) fn task_label(task: &str) -> String {
    match task {
        "ctr" | "cvr" | "ctcvr" => task.to_uppercase(),
        other => other.to_owned(),
    }
}

/// The prediction of a task.
pub(crate) fn prediction_label(task: &str) -> String {
    match task {
        "ctr" | "cvr" | "ctcvr" => format!("p{}", task.to_uppercase()),
        other => format!("p({other})"),
    }
}

/// The rows that a task is measured on.
pub(crate) fn measured_on(task: &str) -> String {
    match task.split_once('|') {
        Some((_, given)) => format!("rows with {given}"),
        None if task == "cvr" => "clicked rows".to_owned(),
        None => "all rows".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{date, duration, grouped, percent, ratio, short, significant};

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let shares = [0.0, 1.0, 0.2, 0.201_23, 0.000_213_4].map(percent);
        assert_eq!(shares, ["0%", "100%", "20%", "20.1%", "0.0213%"]);
        assert_eq!(
            [0.5, 1.0326, 12.34, 250.0].map(|value| ratio(Some(value))),
            ["0.500", "1.033", "12.3", "250"]
        );
        assert_eq!([0.0, 9000.0, 40_000.0, 1.5e6, 2e9].map(short), ["0", "9000", "40k", "1.5M", "2G"]);
        assert_eq!(significant(-0.001_234, 2), "-0.0012");
        assert_eq!([7.25, 725.0, 12_000.0].map(duration), ["7.2 s", "12 min 5 s", "3 h 20 min"]);
    }

    /// The dates are from `date -u -d @SECONDS` of GNU coreutils.
    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
    }
}
