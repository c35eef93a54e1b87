//! Reading files: places, agreement, what is missing or damaged.

use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::{Folder, chunks, names};
use crate::{CsvOptions, ListFormat, SourceSpec};

/// Cells of a text column over all chunks, `-` where null.
fn cells(source: &SourceSpec, column: &str) -> Vec<String> {
    let read = chunks(source, &[column]).unwrap();
    let cells = read.iter().flat_map(|chunk| chunk.column(column).unwrap().as_string::<i32>().iter());
    cells.map(|cell| cell.unwrap_or("-").to_owned()).collect()
}

fn places(folder: &Folder, source: &SourceSpec) -> Vec<String> {
    let read = chunks(source, &[]).unwrap();
    let places =
        read.iter().flat_map(|chunk| (0..chunk.rows()).map(|row| chunk.origin().place(row).to_string()));
    places.map(|place| place.replace(&folder.path(""), "")).collect()
}

fn failure(folder: &Folder, source: &SourceSpec, columns: &[&str]) -> String {
    folder.message(&chunks(source, columns).unwrap_err())
}

#[test]
fn csv_cells_are_text_and_empty_ones_null() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "x,y\n1,\"a,\"\"b\"\"\"\n,\"\"\n042,é\n");
    assert_eq!(cells(&source, "x"), ["1", "-", "042"]);
    assert_eq!(cells(&source, "y"), ["a,\"b\"", "-", "é"]);
    assert_eq!(source.column_names().unwrap(), ["x", "y"]);
}

#[test]
fn csv_lines_are_exact_with_quoted_line_feeds_empty_lines_and_any_line_end() {
    let folder = Folder::new();
    let lines = |text: &str| places(&folder, &folder.text("a.csv", text));
    assert_eq!(lines("x,y\n1,2\n3,4\n"), ["a.csv:2", "a.csv:3"]);
    assert_eq!(lines("x,y\n1,2\n3,4"), ["a.csv:2", "a.csv:3"]);
    assert_eq!(lines("x,y\r\n1,2\r\n3,4\r\n"), ["a.csv:2", "a.csv:3"]);
    assert_eq!(lines("x,y\r\n1,2\r\n3,4"), ["a.csv:2", "a.csv:3"]);
    assert_eq!(lines("\n\nx,y\n\n1,2\n\n\n3,4\n\n"), ["a.csv:5", "a.csv:8"]);
    assert_eq!(lines("x,y\r\n\r\n1,\"2\r\n2\"\r\n\r\n3,4\r\n"), ["a.csv:3", "a.csv:6"]);
    assert_eq!(lines("x,\"y\nz\"\n\"1\n\n1\",2\n3,4\n"), ["a.csv:3", "a.csv:6"]);
    assert_eq!(lines("\u{feff}x,y\n1,2\n3,4\n"), ["a.csv:2", "a.csv:3"]);
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_name() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "\u{feff}x,y\n1,2\n");
    assert_eq!(source.column_names().unwrap(), ["x", "y"]);
    assert_eq!(cells(&source, "x"), ["1"]);
}

#[test]
fn delimiter_and_quote_can_be_chosen_and_tsv_has_tabs() {
    let folder = Folder::new();
    assert_eq!(cells(&folder.text("a.tsv", "x\ty\n1,5\t2\n"), "x"), ["1,5"]);
    let mut source = folder.text("b.txt", "x;y\n'1;5';2\n");
    source.csv = CsvOptions { delimiter: Some(';'), quote: '\'' };
    assert_eq!(cells(&source, "x"), ["1;5"]);
}

#[test]
fn chunks_have_8192_rows_and_know_their_place_in_the_source() {
    let folder = Folder::new();
    let rows: String = (0..10_000).map(|row| format!("{row}\n")).collect();
    let mut source = folder.text("a.csv", format!("x\n{rows}"));
    folder.text("b.csv", "y,x\n0,7\n");
    source.paths.push(folder.path("b.csv"));
    for _ in 0..2 {
        let read = chunks(&source, &["x"]).unwrap();
        let sizes: Vec<(usize, u64)> = read.iter().map(|chunk| (chunk.rows(), chunk.first_row())).collect();
        assert_eq!(sizes, [(8192, 0), (1808, 8192), (1, 10_000)]);
        assert_eq!(
            folder.message(&read[1].column("z").unwrap_err()),
            "a.csv: there is no column `z`, did you mean `x`?"
        );
        assert_eq!(read[1].origin().place(0).to_string(), format!("{}:8194", folder.path("a.csv")));
    }
    let numbers = Int64Array::from_iter_values(0..10_000);
    let source = folder.parquet("a.parquet", vec![("x", Arc::new(numbers))]);
    let read = chunks(&source, &["x"]).unwrap();
    assert_eq!(read[1].column("x").unwrap().as_primitive::<Int64Type>().value(0), 8192);
    assert_eq!(places(&folder, &source)[8192], "a.parquet: row 8193");
    assert_eq!(read[0].batch().num_columns(), 1);
}

#[test]
fn files_come_as_they_are_named_and_those_of_a_glob_sorted() {
    let folder = Folder::new();
    for (name, value) in [("b.csv", 2), ("a.csv", 1), ("c[1].csv", 3)] {
        folder.text(name, format!("x\n{value}\n"));
    }
    let source = SourceSpec::new([folder.path("c[1].csv"), folder.path("*.csv"), folder.path("./a.csv")]);
    assert_eq!(cells(&source, "x"), ["3", "1", "2", "3", "1"]);
    let repeated = source.repeated_files().unwrap();
    assert_eq!(
        repeated.iter().map(|path| folder.message_of(&path.display())).collect::<Vec<_>>(),
        ["c[1].csv", "./a.csv"]
    );
}

#[test]
fn empty_parquet_parts_are_fine_unless_all_are_empty() {
    let folder = Folder::new();
    let part = |numbers: &[i64]| Arc::new(Int64Array::from(numbers.to_vec()));
    folder.parquet("part-0.parquet", vec![("x", part(&[]))]);
    let all = SourceSpec::new([folder.path("*.parquet")]);
    assert_eq!(failure(&folder, &all, &["x"]), "part-0.parquet: no rows");
    folder.parquet("part-1.parquet", vec![("x", part(&[5]))]);
    assert_eq!(chunks(&all, &["x"]).unwrap().len(), 1);
}

#[test]
fn empty_parts_of_text_add_no_rows() {
    let folder = Folder::new();
    for (name, text) in
        [("p0.csv", "x\n"), ("p1.csv", "x\n1\n"), ("p2.csv", ""), ("p3.csv", "x\n2\n"), ("p4.csv", "x\n")]
    {
        folder.text(name, text);
    }
    let source = SourceSpec::new([folder.path("*.csv")]);
    assert_eq!(cells(&source, "x"), ["1", "2"]);
    let whole = SourceSpec::new([folder.path("")]);
    assert_eq!(cells(&whole, "x"), ["1", "2"]);
    let none = SourceSpec::new([folder.path("p0.csv")]);
    assert_eq!(none.open(&names(&["x"])).unwrap().or_empty().count(), 0);
    assert_eq!(none.no_rows(&names(&["x"])).unwrap().rows(), 0);
}

#[test]
fn folders_are_read_with_the_columns_in_their_names() {
    let folder = Folder::new();
    for (day, x) in [("2024-05-02", 2), ("2024-05-01", 1), ("__HIVE_DEFAULT_PARTITION__", 3)] {
        let path = format!("log/day={day}");
        fs::create_dir_all(folder.path(&path)).unwrap();
        folder.text(&format!("{path}/part.csv"), format!("x\n{x}\n"));
        folder.text(&format!("{path}/_SUCCESS"), "");
        folder.text(&format!("{path}/.part.csv.crc"), "?");
    }
    for path in ["log", "log/*", "log/*/*.csv", "log/**/*.csv"] {
        let source = SourceSpec::new([folder.path(path)]);
        assert_eq!(cells(&source, "day"), ["2024-05-01", "2024-05-02", "-"], "{path}");
        assert_eq!(cells(&source, "x"), ["1", "2", "3"], "{path}");
        assert_eq!(source.column_names().unwrap(), ["x", "day"]);
    }
    let part = vec![("x", Arc::new(Int64Array::from(vec![7])) as arrow::array::ArrayRef)];
    folder.parquet("log/day=2024-05-02/a.parquet", part);
    let both = SourceSpec::new([folder.path("log/day=2024-05-02")]);
    let read = chunks(&both, &["day", "x"]).unwrap();
    assert_eq!(read.len(), 2);
    assert!(
        read.iter().all(|chunk| chunk.column("day").unwrap().as_string::<i32>().value(0) == "2024-05-02")
    );
    assert_eq!(read[0].column("x").unwrap().as_primitive::<Int64Type>().value(0), 7);
}

#[test]
fn compressed_files_are_unpacked_and_errors_name_them() {
    use std::io::Write;
    let folder = Folder::new();
    let text = "x,y\n1,a\n2,b\n3\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let packed =
        [("a.csv.gz", gzip.finish().unwrap()), ("a.csv.zst", zstd::encode_all(text.as_bytes(), 0).unwrap())];
    for (name, bytes) in packed {
        let source = folder.text(name, &bytes);
        assert_eq!(source.column_names().unwrap(), ["x", "y"]);
        assert_eq!(
            failure(&folder, &source, &["x"]),
            format!("{name}:4: found 1 fields, expected 2 as in the first line, which names the columns")
        );
        let cut = folder.text(&format!("cut-{name}"), &bytes[..bytes.len() - 6]);
        assert!(
            failure(&folder, &cut, &["x"]).starts_with(&format!("cut-{name}: cannot be read or unpacked: "))
        );
    }
}

#[test]
fn parquet_is_read_whatever_compressed_it() {
    use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
    let folder = Folder::new();
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        let array: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let batch = RecordBatch::try_from_iter([("x", array)]).unwrap();
        let file = fs::File::create(folder.path("a.parquet")).unwrap();
        let properties =
            parquet::file::properties::WriterProperties::builder().set_compression(codec).build();
        let mut writer =
            parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let source = SourceSpec::new([folder.path("a.parquet")]);
        let read = chunks(&source, &["x"]).unwrap();
        assert_eq!(read[0].column("x").unwrap().as_primitive::<Int64Type>().value(999), 999, "{codec:?}");
    }
}

#[test]
fn blanks_around_names_and_quotes_are_left_out() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "x, y, \"z z\"\n1,2, \"a \"\"b\"\"\"\n");
    assert_eq!(source.column_names().unwrap(), ["x", "y", "z z"]);
    assert_eq!(cells(&source, "z z"), ["a \"b\""]);
    let exact = SourceSpec { spelling: crate::Spelling::exact(), ..source };
    assert_eq!(exact.column_names().unwrap(), ["x", " y", " \"z z\""]);
}

#[test]
fn missing_and_empty_files_are_errors() {
    let folder = Folder::new();
    let fails = |source: SourceSpec| failure(&folder, &source, &["x"]);
    let at = |name: &str| SourceSpec::new([folder.path(name)]);
    assert_eq!(fails(at("gone.csv")), "gone.csv: No such file or directory");
    assert_eq!(fails(at("*.csv")), "*.csv: no file matches");
    assert_eq!(fails(SourceSpec::default()), "source: there is no path, at least one file or glob is needed");
    let first_line = "the file is empty, its first line must name the columns";
    assert_eq!(fails(folder.text("empty.csv", "")), format!("empty.csv: {first_line}"));
    assert_eq!(
        fails(folder.text("bom.csv", "\n\n")),
        "bom.csv: the file is empty, its first line must name the columns"
    );
    assert_eq!(fails(folder.text("header.csv", "x,y\n")), "header.csv: no rows");
    assert_eq!(fails(folder.text("empty.pq", "")), "empty.pq: the file is empty, which no Parquet file is");
    let unknown = fails(folder.text("a.xlsx", "x"));
    assert_eq!(
        unknown,
        "a.xlsx: unknown type of file, allowed are .csv, .tsv, .txt, .parquet and .pq, each also with .gz or .zst"
    );
    fs::create_dir(folder.path("parts")).unwrap();
    assert_eq!(
        fails(at("parts")),
        "parts: the folder has no files (names that begin with _ or . are left out)"
    );
    assert!(fails(at("[.csv")).contains("is not a glob"));
}

#[test]
fn unknown_columns_are_found_in_every_file_before_reading() {
    let folder = Folder::new();
    let mut source = folder.text("a.csv", "click,price\n1,2\n");
    let message = |source: &SourceSpec, column: &str| failure(&folder, source, &[column]);
    assert_eq!(message(&source, "clik"), "a.csv: there is no column `clik`, did you mean `click`?");
    assert_eq!(
        message(&source, "weekday"),
        "a.csv: there is no column `weekday`, there are `click`, `price`"
    );
    folder.text("b.csv", "clicks,price\n1,2\n");
    source.paths.push(folder.path("b.csv"));
    let error = source.open(&names(&["click"])).unwrap_err();
    assert_eq!(folder.message(&error), "b.csv: there is no column `click`, did you mean `clicks`?");
    let twice = folder.text("c.csv", "x,y,x\n1,2,3\n");
    assert_eq!(message(&twice, "x"), "c.csv: column `x` is there twice");
    assert!(chunks(&twice, &["y"]).is_ok());
    let parquet = folder.parquet("d.parquet", vec![("click", Arc::new(Int64Array::from(vec![1])))]);
    assert_eq!(message(&parquet, "clik"), "d.parquet: there is no column `clik`, did you mean `click`?");
}

#[test]
fn broken_records_say_where() {
    let folder = Folder::new();
    let fails = |text: &[u8]| failure(&folder, &folder.text("a.csv", text), &["x", "y"]);
    assert_eq!(
        fails(b"x,y\n1,2\n1,2,3\n"),
        "a.csv:3: found 3 fields, expected 2 as in the first line, which names the columns"
    );
    assert_eq!(
        fails(b"x,y\r\n\r\n1\r\n"),
        "a.csv:3: found 1 fields, expected 2 as in the first line, which names the columns"
    );
    assert_eq!(
        fails(b"x,y\n1,2\n3,caf\xe9\n"),
        "a.csv:3: column `y`: found `caf\u{fffd}`, allowed is UTF-8 text"
    );
    let header = fails(b"x,y\xff\n1,2\n");
    assert_eq!(
        header,
        "a.csv:1: column `y\u{fffd}`: found a header that is not UTF-8, allowed is UTF-8 text"
    );
}

#[test]
fn a_reader_ends_after_its_first_error() {
    let folder = Folder::new();
    let mut source = folder.text("a.csv", "x\n1,2\n");
    folder.text("b.csv", "x\n1\n");
    source.paths.push(folder.path("b.csv"));
    let mut reader = source.open(&names(&["x"])).unwrap();
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none());
}

#[test]
fn damaged_parquet_is_one_line_that_names_the_file() {
    let folder = Folder::new();
    let source = folder.parquet("a.parquet", vec![("x", Arc::new(Int64Array::from_iter_values(0..1000)))]);
    let whole = fs::read(folder.path("a.parquet")).unwrap();
    for length in [1, 4, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(folder.path("a.parquet"), &whole[..length]).unwrap();
        let message = failure(&folder, &source, &["x"]);
        assert!(message.starts_with("a.parquet: "), "{message}");
    }
    fs::write(folder.path("a.parquet"), "x,y\n1,2\n").unwrap();
    assert!(failure(&folder, &source, &["x"]).starts_with("a.parquet: "));
}

#[test]
fn settings_that_cannot_be_are_errors() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "x\n1\n");
    let csv = |delimiter, quote| SourceSpec { csv: CsvOptions { delimiter, quote }, ..source.clone() };
    let fails = |source: &SourceSpec| failure(&folder, source, &["x"]);
    assert_eq!(
        fails(&csv(Some('→'), '"')),
        "source: delimiter = '→', it must be one ASCII character and no line feed"
    );
    assert_eq!(
        fails(&csv(None, '\n')),
        "source: quote = '\\n', it must be one ASCII character and no line feed"
    );
    assert_eq!(fails(&csv(None, ',')), "source: delimiter and quote are both ',', they must differ");
    let lists = ListFormat { separator: ':', weight_separator: ':' };
    let message = fails(&SourceSpec { lists, ..source.clone() });
    assert_eq!(message, "source: the separators of lists and of weights are both ':', they must differ");
    assert!(chunks(&SourceSpec { lists, ..source.clone() }, &["x"]).unwrap_err().is_setting());
}

/// Whatever writes must know them: they are read as the files that are named.
#[test]
fn groups_stand_beside_their_impressions() {
    let paths = ["a/impressions.parquet", "impressions.parquet"].map(std::path::PathBuf::from);
    let source = SourceSpec { groups: Some("groups.parquet".to_owned()), ..SourceSpec::new(["a"]) };
    let expected = ["a/groups.parquet", "groups.parquet"].map(std::path::PathBuf::from);
    assert_eq!(source.groups_beside(&paths), expected);
    assert!(SourceSpec::new(["a"]).groups_beside(&paths).is_empty());
}
