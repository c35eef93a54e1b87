//! How a text file is written: its delimiter and its quote, or why it is none that can be read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use esmm_data::{CsvOptions, DataError, DataFile, quoted};

/// Bytes that are looked at.
const HEAD: u64 = 1 << 16;
/// Records that are compared.
const RECORDS: usize = 200;
/// Between fields, the most usual first.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];
/// Around fields, the most usual first.
const QUOTES: [u8; 2] = [b'"', b'\''];

/// Finds the delimiter and the quote that cut the first records into the same number of fields.
///
/// # Errors
/// A file that cannot be read, is no text, or whose first line does not name columns.
pub(crate) fn detect(file: &DataFile) -> Result<CsvOptions, DataError> {
    let path = file.path();
    let head = head(file)?;
    if let Some(reason) = no_text(&head) {
        return Err(DataError::file(path, reason));
    }
    let usual =
        if path.extension().is_some_and(|name| name.eq_ignore_ascii_case("tsv")) { b'\t' } else { b',' };
    let whole = (head.len() as u64) < HEAD;
    let mut best: Option<(Score, u8, u8)> = None;
    for quote in QUOTES {
        for delimiter in DELIMITERS {
            let score = Score::of(&head, whole, delimiter, quote);
            if score.fields > 1 && best.as_ref().is_none_or(|(best, ..)| score.beats(best)) {
                best = Some((score, delimiter, quote));
            }
        }
    }
    let (delimiter, quote) = best.map_or((usual, b'"'), |(_, delimiter, quote)| (delimiter, quote));
    check_header(path, &head, delimiter, quote)?;
    let delimiter = (delimiter != usual).then_some(char::from(delimiter));
    Ok(CsvOptions { delimiter, quote: char::from(quote) })
}

fn head(file: &DataFile) -> Result<Vec<u8>, DataError> {
    let path = file.path();
    let mut head = Vec::new();
    let read = File::open(file.bytes()).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.map(|_| head).map_err(|error| DataError::io(path, &error))
}

/// What a file is that is no text.
fn no_text(head: &[u8]) -> Option<String> {
    let known: [(&[u8], &str); 5] = [
        (b"PAR1", "is a Parquet file, give it the extension .parquet"),
        (b"BZh", "is compressed with bzip2, unpack it first"),
        (b"PK\x03\x04", "is a zip archive (or a spreadsheet), unpack it or save it as CSV first"),
        (&[0xff, 0xfe], "is text in UTF-16, convert it to UTF-8 first"),
        (&[0xfe, 0xff], "is text in UTF-16, convert it to UTF-8 first"),
    ];
    if let Some((_, reason)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some((*reason).to_owned());
    }
    let place = head.iter().position(|byte| *byte == 0)?;
    Some(format!("is no text (byte {place} is 0), a CSV or Parquet file is needed"))
}

/// How well a delimiter and a quote explain the first records.
struct Score {
    /// Fields of the first record.
    fields: usize,
    /// Share of the other records that have as many.
    alike: f64,
}

impl Score {
    fn of(head: &[u8], whole: bool, delimiter: u8, quote: u8) -> Self {
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .quote(quote)
            .flexible(true)
            .has_headers(false)
            .from_reader(head);
        let mut widths = Vec::new();
        let mut record = ByteRecord::new();
        while widths.len() < RECORDS && reader.read_byte_record(&mut record).unwrap_or(false) {
            widths.push(record.len());
        }
        if !whole && widths.len() < RECORDS && widths.len() > 1 {
            widths.pop();
        }
        let fields = widths.first().copied().unwrap_or(0);
        let alike = widths.iter().filter(|width| **width == fields).count();
        Self { fields, alike: alike as f64 / widths.len().max(1) as f64 }
    }

    fn beats(&self, other: &Self) -> bool {
        (self.alike, self.fields) > (other.alike, other.fields)
    }
}

fn check_header(path: &Path, head: &[u8], delimiter: u8, quote: u8) -> Result<(), DataError> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).quote(quote).flexible(true).from_reader(head);
    let Ok(header) = reader.headers() else {
        return Ok(()); // The reader of the rows says what is wrong with it, and where.
    };
    let is_data = !header.is_empty() && header.iter().all(|name| name.parse::<f64>().is_ok());
    if is_data {
        let found: Vec<String> = header.iter().take(3).map(quoted).collect();
        let reason = format!("the first line is data ({}), it must name the columns", found.join(", "));
        return Err(DataError::file(path, reason));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(name: &str, bytes: &[u8]) -> Result<(Option<char>, char), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let files = esmm_data::SourceSpec::new([path.display().to_string()]).files();
        let found = files.and_then(|files| detect(&files[0])).map(|found| (found.delimiter, found.quote));
        found.map_err(|error| error.to_string().rsplit_once(&format!("{name}: ")).unwrap().1.to_owned())
    }

    #[test]
    fn the_delimiter_that_cuts_all_records_alike_wins() {
        assert_eq!(detected("a.csv", b"user,note,click\nu1,\"a;b;c\",0\nu2,a,1\n"), Ok((None, '"')));
        assert_eq!(detected("a.csv", b"user;note;click\nu1;a,b,c;0\nu2;a;1\n"), Ok((Some(';'), '"')));
        assert_eq!(detected("a.csv", b"user\tnote\nu1\ta|b|c\nu2\ta,b\n"), Ok((Some('\t'), '"')));
        assert_eq!(detected("a.tsv", b"user\tnote\nu1\ta|b|c\nu2\ta,b\n"), Ok((None, '"')));
        assert_eq!(detected("a.csv", b"user,note\nu1,'a,b'\nu2,'c,d,e'\n"), Ok((None, '\'')));
        assert_eq!(detected("a.csv", b"user,note\nu1,it's\nu2,'tis\n"), Ok((None, '"')));
        assert_eq!(detected("a.csv", b"click\n0\n1\n"), Ok((None, '"')));
    }

    #[test]
    fn what_is_no_table_of_text_is_named() {
        for (bytes, expected) in [
            (&b"PAR1...."[..], "is a Parquet file"),
            (&[0x1f, 0x8b, 8], "cannot be read or unpacked"),
            (b"a\0b\0", "is no text (byte 1 is 0)"),
            (&[0xff, 0xfe, b'a', 0], "is text in UTF-16"),
            (b"1,0,17\n1,0,18\n", "the first line is data (`1`, `0`, `17`)"),
        ] {
            let error = detected("a.csv", bytes).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
