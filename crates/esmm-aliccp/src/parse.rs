//! Raw lines, byte by byte: no text is copied, no number goes through a second type.

use crate::field::{FIELDS, FIELDS_LEN, Table, fields_of};
use crate::token::{ID, NEXT, VALUE, token};

/// The columns of a skeleton row before its features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sample_id: i64,
    pub(crate) click: bool,
    pub(crate) conversion: bool,
}

/// A line that is cut at its commas, nothing checked yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SkeletonLine<'a> {
    labels: [&'a [u8]; 3],
    pub(crate) index: &'a [u8],
    declared: &'a [u8],
    features: &'a [u8],
}

/// A common line that is cut at its commas.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommonLine<'a> {
    pub(crate) index: &'a [u8],
    declared: &'a [u8],
    features: &'a [u8],
}

impl<'a> SkeletonLine<'a> {
    /// `None` when there are less than five commas.
    #[inline]
    pub(crate) fn cut(line: &'a [u8]) -> Option<Self> {
        let (sample_id, rest) = until_comma(line)?;
        let (click, rest) = until_comma(rest)?;
        let (conversion, rest) = until_comma(rest)?;
        let (index, rest) = until_comma(rest)?;
        let (declared, features) = until_comma(rest)?;
        Some(Self { labels: [sample_id, click, conversion], index, declared, features })
    }

    /// Its labels; its features go into the buffer.
    pub(crate) fn read(&self, features: &mut Features) -> Result<Head, String> {
        let [sample_id, click, conversion] = self.labels;
        let head = Head {
            sample_id: whole(sample_id)
                .and_then(|number| i64::try_from(number).ok())
                .ok_or_else(|| fault("sample_id", sample_id, "a whole number"))?,
            click: label(click).ok_or_else(|| fault("click", click, "0 or 1"))?,
            conversion: label(conversion).ok_or_else(|| fault("conversion", conversion, "0 or 1"))?,
        };
        features.read(Table::Skeleton, self.declared, self.features)?;
        Ok(head)
    }
}

impl<'a> CommonLine<'a> {
    /// `None` when there are less than two commas.
    pub(crate) fn cut(line: &'a [u8]) -> Option<Self> {
        let (index, rest) = until_comma(line)?;
        let (declared, features) = until_comma(rest)?;
        Some(Self { index, declared, features })
    }

    /// Its features go into the buffer.
    pub(crate) fn read(&self, features: &mut Features) -> Result<(), String> {
        std::str::from_utf8(self.index).map_err(|_| fault("common_feature_index", self.index, "text"))?;
        features.read(Table::Common, self.declared, self.features)
    }
}

/// What to say about a line that cannot be cut.
pub(crate) fn too_few_columns(line: &[u8], table: Table) -> String {
    let columns = match table {
        Table::Skeleton => "sample_id,click,conversion,common_feature_index,feature_num,feature_list",
        Table::Common => "common_feature_index,feature_num,feature_list",
    };
    let commas = line.iter().filter(|byte| **byte == b',').count();
    format!("found {} columns in {}, allowed is {columns}", commas + 1, quoted(line))
}

/// The features of one row, field by field, in the order in which they came. Kept from row to row for its memory.
#[derive(Debug, Default)]
pub(crate) struct Features {
    fields: [FieldValues; FIELDS_LEN],
}

/// The values of one field.
#[derive(Debug, Default)]
pub(crate) struct FieldValues {
    pub(crate) ids: Vec<i32>,
    pub(crate) weights: Vec<f32>,
}

impl Features {
    /// The values of a field, none when it is missing.
    pub(crate) fn of(&self, field: usize) -> &FieldValues {
        &self.fields[field]
    }

    fn read(&mut self, table: Table, declared: &[u8], list: &[u8]) -> Result<(), String> {
        for values in &mut self.fields {
            values.ids.clear();
            values.weights.clear();
        }
        let count = self.read_list(table, list)?;
        match whole(declared) {
            Some(number) if number == count => Ok(()),
            Some(_) => Err(fault("feature_num", declared, &format!("{count}, as many as the list has"))),
            None => Err(fault("feature_num", declared, "a whole number")),
        }
    }

    fn read_list(&mut self, table: Table, list: &[u8]) -> Result<u64, String> {
        let mut at = 0;
        let mut count = 0;
        while at < list.len() {
            let Some((field, id, weight, end)) = token(list, at) else {
                return Err(explain(table, list, at));
            };
            if FIELDS[field].table != table {
                return Err(explain(table, list, at));
            }
            self.fields[field].ids.push(id);
            self.fields[field].weights.push(weight);
            count += 1;
            at = end + 1;
            if end + 1 == list.len() {
                return Err(explain(table, list, at));
            }
        }
        Ok(count)
    }
}

#[inline]
fn until_comma(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let comma = bytes.iter().position(|byte| *byte == b',')?;
    Some((&bytes[..comma], &bytes[comma + 1..]))
}

/// A whole number without a sign.
fn whole(bytes: &[u8]) -> Option<u64> {
    let digits = !bytes.is_empty() && bytes.len() <= 19 && bytes.iter().all(u8::is_ascii_digit);
    digits.then(|| bytes.iter().fold(0, |number, byte| number * 10 + u64::from(byte - b'0')))
}

fn label(bytes: &[u8]) -> Option<bool> {
    match bytes {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// Why a feature was refused.
#[cold]
fn explain(table: Table, list: &[u8], start: usize) -> String {
    let rest = list.get(start..).unwrap_or_default();
    let feature = rest.split(|byte| *byte == NEXT).next().unwrap_or_default();
    let mut halves = feature.splitn(2, |byte| *byte == ID);
    let code = halves.next().unwrap_or_default();
    let rest = halves.next();
    let Some((id, value)) = rest.and_then(|rest| {
        let at = rest.iter().position(|byte| *byte == VALUE)?;
        Some((&rest[..at], &rest[at + 1..]))
    }) else {
        return fault("feature_list", feature, "features field\\x02id\\x03value with \\x01 between them");
    };
    let codes = || fields_of(table).map(|field| FIELDS[field].code);
    if !codes().any(|allowed| allowed.as_bytes() == code) {
        return fault("field", code, &format!("one of {}", codes().collect::<Vec<_>>().join(", ")));
    }
    let code = String::from_utf8_lossy(code);
    match id.len() <= 10 && whole(id).is_some_and(|id| id <= i32::MAX as u64) {
        false => fault(&format!("id of field {code}"), id, "a whole number up to 2147483647"),
        true => fault(&format!("value of field {code}"), value, "a finite number that is not negative"),
    }
}

fn fault(what: &str, found: &[u8], allowed: &str) -> String {
    format!("{what}: found {}, allowed is {allowed}", quoted(found))
}

/// Bytes for a message: in backticks, on one line, at most 40 characters.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    match bytes {
        [] => "nothing".to_owned(),
        bytes => esmm_data::quoted(&String::from_utf8_lossy(&bytes[..bytes.len().min(200)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::find;

    fn refused(line: &str) -> String {
        let line = line.replace('|', "\x01").replace(':', "\x02").replace('=', "\x03");
        let line = SkeletonLine::cut(line.as_bytes()).unwrap();
        line.read(&mut Features::default()).unwrap_err()
    }

    #[test]
    fn every_value_of_a_row_is_kept_in_its_order() {
        let line =
            b"7,1,0,abc,4,210\x0290\x031.0\x01205\x025\x031.0\x01210\x0291\x031.09861\x01210\x0290\x032";
        let mut features = Features::default();
        let head = SkeletonLine::cut(line).unwrap().read(&mut features).unwrap();
        assert_eq!(head, Head { sample_id: 7, click: true, conversion: false });
        let field = find(210, false).unwrap();
        assert_eq!(features.of(field).ids, [90, 91, 90]);
        assert_eq!(features.of(field).weights, [1.0, 1.09861, 2.0]);
        SkeletonLine::cut(b"8,0,0,abc,0,").unwrap().read(&mut features).unwrap();
        assert!((0..FIELDS_LEN).all(|field| features.of(field).ids.is_empty()));
    }

    #[test]
    fn faults_say_what_was_found_and_what_is_allowed() {
        let list = "features field\\x02id\\x03value with \\x01 between them";
        let cases = [
            ("x,0,0,a,0,", "sample_id: found `x`, allowed is a whole number".to_owned()),
            ("1,2,0,a,0,", "click: found `2`, allowed is 0 or 1".to_owned()),
            ("1,0,,a,0,", "conversion: found nothing, allowed is 0 or 1".to_owned()),
            ("1,0,0,a,2,205:1=1", "feature_num: found `2`, allowed is 1, as many as the list has".to_owned()),
            ("1,0,0,a,,205:1=1", "feature_num: found nothing, allowed is a whole number".to_owned()),
            ("1,0,0,a,1,205:1", format!("feature_list: found `205\\u{{2}}1`, allowed is {list}")),
            ("1,0,0,a,1,205=1.0", format!("feature_list: found `205\\u{{3}}1.0`, allowed is {list}")),
            ("1,0,0,a,2,205:1=1|", format!("feature_list: found nothing, allowed is {list}")),
            ("1,0,0,a,2,205:1=1||206:1=1", format!("feature_list: found nothing, allowed is {list}")),
            (
                "1,0,0,a,1,205:x=1",
                "id of field 205: found `x`, allowed is a whole number up to 2147483647".to_owned(),
            ),
            (
                "1,0,0,a,1,205:2147483648=1",
                "id of field 205: found `2147483648`, allowed is a whole number up to 2147483647".to_owned(),
            ),
            (
                "1,0,0,a,1,853:1=much",
                "value of field 853: found `much`, allowed is a finite number that is not negative"
                    .to_owned(),
            ),
            (
                "1,0,0,a,1,853:1=-1",
                "value of field 853: found `-1`, allowed is a finite number that is not negative".to_owned(),
            ),
            (
                "1,0,0,a,1,853:1=",
                "value of field 853: found nothing, allowed is a finite number that is not negative"
                    .to_owned(),
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(refused(line), expected, "{line}");
        }
        for code in ["101", "999", "", "205_14", "2050"] {
            let message = refused(&format!("1,0,0,a,1,{code}:1=1"));
            assert!(
                message.ends_with("one of 205, 206, 207, 210, 216, 508, 509, 702, 853, 301"),
                "{message}"
            );
        }
        assert!(SkeletonLine::cut(b"1,0,0,abc").is_none());
        let message = too_few_columns(b"1,0,0,abc", Table::Skeleton);
        assert!(message.starts_with("found 4 columns in `1,0,0,abc`, allowed is sample_id,"), "{message}");
    }
}
