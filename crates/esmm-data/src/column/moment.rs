//! Moments, as people and programs write them: dates, dates with times, with an offset or a zone's name.

use std::fmt::Write;

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike};
use chrono_tz::Tz;

const SECOND: i128 = 1_000_000_000;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Nanoseconds since 1970, UTC.
    pub(crate) nanos: i128,
    /// Whether an offset or a zone was written beside it.
    pub(crate) zoned: bool,
}

impl Stamp {
    /// The moment that a text stands for: `2024-01-31`, `2024/01/31` or `31.01.2024`, with a time after `T` or a blank, to the minute, the second or a
    /// fraction of it, and then nothing, `Z`, an offset, or a zone's name. Times without a zone are in `zone`, or UTC; of
    /// two that a clock shows twice in autumn the earlier is meant.
    pub(crate) fn parse(text: &str, zone: Option<Tz>) -> Option<Self> {
        let (date, rest) = date(text)?;
        if rest.is_empty() {
            return Self::local(date.and_time(NaiveTime::MIN), zone);
        }
        let rest = rest.strip_prefix(['T', 't']).or_else(|| rest.strip_prefix(' '))?;
        let (time, rest) = time(rest.trim_start())?;
        let moment = date.and_time(time);
        match place(rest.trim())? {
            Place::Nowhere => Self::local(moment, zone),
            Place::Offset(seconds) => Some(Self { nanos: nanos(moment) - seconds * SECOND, zoned: true }),
            Place::Zone(zone) => Some(Self { zoned: true, ..Self::local(moment, Some(zone))? }),
        }
    }

    /// The moment at which clocks of a zone, or of UTC, show a time; `None` when they never do.
    pub(crate) fn local(moment: NaiveDateTime, zone: Option<Tz>) -> Option<Self> {
        let Some(zone) = zone else {
            return Some(Self { nanos: nanos(moment), zoned: false });
        };
        let moment = match zone.from_local_datetime(&moment) {
            LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => moment,
            LocalResult::None => return None,
        };
        Some(Self { nanos: nanos(moment.naive_utc()), zoned: false })
    }

    /// What a clock of UTC shows.
    pub(crate) fn clock(nanos: i128) -> Option<NaiveDateTime> {
        utc(nanos)
    }

    /// Its canonical text, in UTC: a date at midnight, else with the time after `T`, the fraction without zeros at its end.
    pub(crate) fn text(nanos: i128) -> Option<String> {
        let moment = utc(nanos)?;
        let mut text = format!("{:04}-{:02}-{:02}", moment.year(), moment.month(), moment.day());
        if nanos.rem_euclid(86_400 * SECOND) != 0 {
            let _ = write!(text, "T{:02}:{:02}:{:02}", moment.hour(), moment.minute(), moment.second());
            text.push_str(&fraction(nanos));
        }
        Some(text)
    }

    /// As pandas and DuckDB write it in a zone: `2024-03-31 01:30:00+01:00`.
    pub(crate) fn zoned_text(nanos: i128, zone: &ZoneName) -> Option<String> {
        let seconds = match zone {
            ZoneName::Offset(seconds) => *seconds,
            ZoneName::Zone(zone) => {
                use chrono::Offset;
                zone.offset_from_utc_datetime(&utc(nanos)?).fix().local_minus_utc().into()
            }
        };
        let local = utc(nanos + seconds * SECOND)?;
        let mut text = format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{}",
            local.year(),
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second(),
            fraction(nanos)
        );
        let sign = if seconds < 0 { '-' } else { '+' };
        let minutes = seconds.abs() / 60;
        let _ = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
        Some(text)
    }
}

/// A zone as Arrow names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZoneName {
    /// Seconds east of UTC.
    Offset(i128),
    /// An IANA zone.
    Zone(Tz),
}

impl ZoneName {
    /// `Europe/Berlin`, `UTC`, `+01:00`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match place(text)? {
            Place::Nowhere => None,
            Place::Offset(seconds) => Some(Self::Offset(seconds)),
            Place::Zone(zone) => Some(Self::Zone(zone)),
        }
    }
}

fn utc(nanos: i128) -> Option<NaiveDateTime> {
    let seconds = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
    DateTime::from_timestamp(seconds, nanos.rem_euclid(SECOND) as u32).map(|moment| moment.naive_utc())
}

fn fraction(nanos: i128) -> String {
    match nanos.rem_euclid(SECOND) {
        0 => String::new(),
        rest => format!(".{rest:09}").trim_end_matches('0').to_owned(),
    }
}

fn nanos(moment: NaiveDateTime) -> i128 {
    let utc = moment.and_utc();
    i128::from(utc.timestamp()) * SECOND + i128::from(utc.timestamp_subsec_nanos())
}

/// Nanoseconds since 1970 of a text that is a moment, as times of a split are read; without a zone those of UTC.
pub fn moment_of(text: &str) -> Option<i128> {
    Stamp::parse(text, None).map(|stamp| stamp.nanos)
}

/// `2024-01-31`, `2024/01/31` or `31.01.2024` at the start of a text, and what follows. Where the year comes last and slashes
/// stand between, some mean the day by the first number and some the month: such a text is no date.
fn date(text: &str) -> Option<(NaiveDate, &str)> {
    let bytes = text.as_bytes();
    let year_comes_first = bytes.len() >= 10 && matches!((bytes[4], bytes[7]), (b'-', b'-') | (b'/', b'/'));
    if !year_comes_first {
        return dotted_date(text);
    }
    let date = NaiveDate::from_ymd_opt(
        number(&bytes[..4])?.try_into().ok()?,
        number(&bytes[5..7])?,
        number(&bytes[8..10])?,
    )?;
    Some((date, text.get(10..)?))
}

/// `31.01.2024` or `1.2.2024` at the start of a text, and what follows.
fn dotted_date(text: &str) -> Option<(NaiveDate, &str)> {
    let end = text.find(|letter: char| letter != '.' && !letter.is_ascii_digit()).unwrap_or(text.len());
    let (date, rest) = text.split_at(end);
    let parts: Vec<&str> = date.split('.').collect();
    let [day, month, year] = parts.as_slice() else { return None };
    if year.len() != 4 || ![day, month].iter().all(|part| (1..=2).contains(&part.len())) {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(
        number(year.as_bytes())?.try_into().ok()?,
        number(month.as_bytes())?,
        number(day.as_bytes())?,
    )?;
    Some((date, rest))
}

/// `12:30`, `12:30:15`, `12:30:15.25` at the start of a text, and what follows.
fn time(text: &str) -> Option<(NaiveTime, &str)> {
    let bytes = text.as_bytes();
    if bytes.len() < 5 || bytes[2] != b':' {
        return None;
    }
    let hour = number(&bytes[..2])?;
    let minute = number(&bytes[3..5])?;
    if bytes.get(5) != Some(&b':') {
        return Some((NaiveTime::from_hms_opt(hour, minute, 0)?, text.get(5..)?));
    }
    let second = number(bytes.get(6..8)?)?;
    let mut end = 8;
    let mut nanos = 0;
    if matches!(bytes.get(8), Some(b'.' | b',')) {
        let digits = bytes[9..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        end = 9 + digits;
        // What is shorter than a nanosecond is left out.
        let mut scale = 100_000_000;
        for digit in &bytes[9..end.min(18)] {
            nanos += u32::from(digit - b'0') * scale;
            scale /= 10;
        }
    }
    Some((NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?, text.get(end..)?))
}

enum Place {
    Nowhere,
    Offset(i128),
    Zone(Tz),
}

/// What stands after a time.
fn place(text: &str) -> Option<Place> {
    if let Some((before, name)) = text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        let zone = Place::Zone(name.parse().ok()?);
        return match place(before)? {
            Place::Nowhere => Some(zone),
            offset => Some(offset),
        };
    }
    match text {
        "" => return Some(Place::Nowhere),
        "Z" | "z" | "UTC" | "utc" | "GMT" => return Some(Place::Offset(0)),
        _ => {}
    }
    let sign = match text.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        // Short names such as CST stand for several zones.
        _ if text.contains('/') => return Some(Place::Zone(text.parse().ok()?)),
        _ => return None,
    };
    let digits: Vec<u8> = text.bytes().skip(1).filter(|byte| *byte != b':').collect();
    let colons = text.len() - 1 - digits.len();
    let (hours, minutes, seconds) = match (digits.len(), colons) {
        (2, 0) => (number(&digits)?, 0, 0),
        (4, 0 | 1) => (number(&digits[..2])?, number(&digits[2..])?, 0),
        (6, 0 | 2) => (number(&digits[..2])?, number(&digits[2..4])?, number(&digits[4..])?),
        _ => return None,
    };
    if hours > 18 || minutes > 59 || seconds > 59 {
        return None;
    }
    Some(Place::Offset(sign * i128::from(hours * 3600 + minutes * 60 + seconds)))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i128> {
        Stamp::parse(text, None).map(|stamp| stamp.nanos / SECOND)
    }

    /// 1711845000 is 2024-03-31T00:30:00Z (`date -u -d @1711845000`), half an hour before the clocks of Berlin go forward.
    #[test]
    fn one_moment_has_many_texts() {
        for text in [
            "2024-03-31T00:30:00Z",
            "2024-03-31 00:30:00",
            "2024-03-31 00:30",
            "2024-03-31T00:30:00.000000",
            "2024-03-31 01:30:00+01:00",
            "2024-03-31 01:30:00+01",
            "2024-03-31 01:30:00.000 +0100",
            "2024-03-30T19:30:00-05:00",
            "2024-03-31 00:30:00 UTC",
            "2024-03-31T01:30:00+01:00[Europe/Berlin]",
            "2024-03-31 01:30:00 Europe/Berlin",
            "2024/03/31 00:30",
            "31.03.2024 00:30",
            "31.3.2024 01:30:00+01:00",
        ] {
            assert_eq!(seconds(text), Some(1_711_845_000), "{text}");
        }
        assert_eq!(seconds("2024-03-31"), Some(1_711_845_000 - 1800));
        assert_eq!(
            Stamp::parse("1969-12-31T23:59:59.5Z", None),
            Some(Stamp { nanos: -SECOND / 2, zoned: true })
        );
        let berlin = Some(Tz::Europe__Berlin);
        let local = Stamp::parse("2024-03-31 01:30:00", berlin);
        assert_eq!(local, Some(Stamp { nanos: 1_711_845_000 * SECOND, zoned: false }));
        assert_eq!(Stamp::parse("2024-03-31 02:30:00", berlin), None, "no clock of Berlin showed it");
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "2024-13-45",
            "2023-02-29",
            "2024-05-01 oops",
            "2024-05-01T",
            "2024-05-01T25:00",
            "2024-05-01 12:00:00 CST",
            "2024-05-01 12:00:00+1:0",
            "2024-05-01 12:00:00 Mars/Base",
            "01/05/2024",
            "2024/05-01",
            "2024-5-1",
            "32.01.2024",
            "01.13.2024",
            "1.2.24",
            "1.2.3.2024",
            "1.2",
            "20240501",
            "",
        ] {
            assert_eq!(Stamp::parse(text, None), None, "{text}");
        }
    }

    #[test]
    fn texts_are_canonical() {
        let text = |text: &str| Stamp::parse(text, None).and_then(|stamp| Stamp::text(stamp.nanos)).unwrap();
        assert_eq!(text("2024-03-31T00:00:00.000Z"), "2024-03-31");
        assert_eq!(text("2024-03-31 01:30:00.250000+01:00"), "2024-03-31T00:30:00.25");
        assert_eq!(text("1969-12-31T23:59:59.5Z"), "1969-12-31T23:59:59.5");
        let zoned =
            |zone: &str| Stamp::zoned_text(1_711_846_800 * SECOND, &ZoneName::parse(zone).unwrap()).unwrap();
        assert_eq!(zoned("UTC"), "2024-03-31 01:00:00+00:00");
        assert_eq!(zoned("Europe/Berlin"), "2024-03-31 03:00:00+02:00");
        assert_eq!(zoned("-03:30"), "2024-03-30 21:30:00-03:30");
        assert_eq!(ZoneName::parse("Mars/Base"), None);
    }
}
