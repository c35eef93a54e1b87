//! The table of `docs/src/values.md`, made true: the same rows, written in every way, load to the same splits.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Date32Array, Date64Array, Decimal128Array,
    DictionaryArray, FixedSizeBinaryArray, Float16Array, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, ListArray, StringArray, StringViewArray,
    Time32SecondArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float16Type, Int8Type, Int64Type, TimeUnit};
use esmm_core::Pooling;

use super::{Folder, LoadedSplits, bag, dense, load_splits, sparse, vocabulary};
use crate::{
    DenseTransform, FeatureKind, FeatureSpec, LabelSpec, SourceSpec, SparseEncoding, Spelling, SplitSpec,
    TruthSpec,
};

/// A column and its cells, canonical; the last row tests, the one before validates.
type Columns = Vec<(&'static str, [&'static str; 5])>;

fn canonical() -> Columns {
    vec![
        ("user", ["42", "", "-7", "42", "0"]),
        ("flag", ["true", "false", "", "true", "true"]),
        ("day", ["2024-01-31", "2024-02-01", "", "2024-01-31", "2024-02-01"]),
        ("at", ["2024-01-31T11:30:00", "2024-01-31", "", "2024-01-31T11:30:00.25", "2024-01-31"]),
        ("slot", ["01:02:03", "23:59:59", "", "01:02:03", "00:00:00"]),
        ("word", ["a b", "c", "", "a b", "c"]),
        ("history", ["7|8", "", "8", "7|7|9", "9"]),
        ("pairs", ["7:0.5|8:2", "", "8:1", "7:0.25", "9:1"]),
        ("price", ["1.5", "", "20", "3", "-0.25"]),
        ("stock", ["1", "2", "", "4", "5"]),
        ("click", ["1", "0", "1", "1", "0"]),
        ("conversion", ["0", "0", "1", "0", "0"]),
        ("rate", ["0.5", "0.25", "1", "0", "0.125"]),
        ("time", ["2024-05-01T10:00:00", "2024-05-01", "2024-05-01T11:00:00", "2024-05-02", "2024-05-03"]),
    ]
}

fn features() -> Vec<FeatureSpec> {
    let hash = SparseEncoding::Hash { buckets: 50 };
    let mut shared = bag("history", vocabulary(), Pooling::Sum, false);
    if let FeatureKind::Sparse { shares, .. } = &mut shared.kind {
        *shares = Some("user".into());
    }
    vec![
        sparse("user", vocabulary()),
        sparse("flag", vocabulary()),
        sparse("day", hash),
        sparse("at", vocabulary()),
        sparse("slot", vocabulary()),
        sparse("word", vocabulary()),
        shared,
        bag("pairs", vocabulary(), Pooling::Mean, true),
        dense("price", DenseTransform::Standardize, Some(0.0)),
        sparse("stock", SparseEncoding::Quantile { buckets: 3 }),
    ]
}

fn load(source: SourceSpec) -> LoadedSplits {
    let split = SplitSpec::Time { source, column: "time".into(), valid: 0.2, test: 0.2 };
    let truth = TruthSpec { ctr: Some("rate".into()), cvr: Some("rate".into()), ctcvr: None };
    let labels = LabelSpec::new(["click", "conversion"]);
    let loaded = load_splits(&split, &features(), &labels, Some("user"), Some(&truth), false);
    loaded.unwrap_or_else(|error| panic!("{error}"))
}

fn csv(folder: &Folder, columns: &Columns) -> SourceSpec {
    let quoted = |cell: &str| match cell.contains([',', '"', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    };
    let line = |cells: Vec<String>| cells.join(",") + "\n";
    let mut text = line(columns.iter().map(|(name, _)| (*name).to_owned()).collect());
    for row in 0..5 {
        text.push_str(&line(columns.iter().map(|(_, cells)| quoted(cells[row])).collect()));
    }
    folder.text("a.csv", text)
}

fn parquet(folder: &Folder, other: &str, array: &ArrayRef) -> SourceSpec {
    let text = |cells: [&'static str; 5]| -> ArrayRef { Arc::new(StringArray::from(cells.to_vec())) };
    let columns = canonical().into_iter();
    let column = |(name, cells)| (name, if name == other { array.clone() } else { text(cells) });
    folder.parquet("a.parquet", columns.map(column).collect())
}

/// Every way in which a CSV may spell a column.
fn texts() -> Vec<(&'static str, [&'static str; 5])> {
    vec![
        ("user", ["42.0", "", "-7.0", "42.0", "0.0"]),
        ("user", ["42.", "NaN", "-7.", "42.", "-0."]),
        ("user", ["4.2e+01", "nan", "-7.000000e+00", "4.2E1", "0e+00"]),
        ("user", ["+42", "NULL", "-7", " 42", "+0"]),
        ("user", ["  42", "\\N", "-7  ", "42.00", "0.000"]),
        ("user", ["42", "None", "-7", "42", "-0"]),
        ("user", ["42", "<NA>", "-7", "42", "0"]),
        ("flag", ["True", "False", "", "True", "True"]),
        ("flag", ["TRUE", "FALSE", "NA", "TRUE", "TRUE"]),
        (
            "day",
            ["2024-01-31 00:00:00", "2024-02-01 00:00:00", "NaT", "2024-01-31 00:00", "2024-02-01T00:00:00Z"],
        ),
        (
            "at",
            ["2024-01-31 11:30:00", "2024-01-31 00:00:00", "", "2024-01-31 11:30:00.250000", "2024-01-31"],
        ),
        (
            "at",
            [
                "2024-01-31 12:30:00+01:00",
                "2024-01-30T19:00:00-05",
                "null",
                "2024-01-31T11:30:00.250Z",
                "2024-01-31 00:00 UTC",
            ],
        ),
        ("slot", ["01:02:03.000000", "23:59:59.0", "", "01:02:03", "00:00:00"]),
        ("word", [" a b", "c ", "", "a b\u{a0}", " c "]),
        ("history", ["[7, 8]", "[]", "[8]", "[7, 7, 9]", "[9]"]),
        ("history", ["['7', '8']", "nan", "[\"8\"]", "[7 7 9]", "(9,)"]),
        ("history", ["7.0|8.0", "", "8", "7| 7 |9", "9"]),
        ("history", ["{7,8}", "{}", "{8}", "{7,7,9}", "[np.int64(9)]"]),
        ("pairs", ["[7:0.5, 8:2]", "", "8.0:1.0", " 7:2.5e-1", "{'9': 1}"]),
        ("price", ["1.50", "NaN", "2e1", " 3", "-.25"]),
        ("price", ["+1.5", "N/A", "20.0", "3.000000e+00", "-0.25 "]),
        ("stock", ["1.0", "2.0", "nan", "4.0", "5.0"]),
        ("click", ["1.0", "0.0", "1.00", "+1", "-0"]),
        ("click", ["True", "False", "TRUE", "true", "FALSE"]),
        ("conversion", ["0.000000e+00", " 0", "1.000000e+00", "0", "false"]),
        ("rate", ["5e-1", ".25", "1.0", "0.000", "0.125"]),
        (
            "time",
            [
                "2024-05-01 10:00:00",
                "2024-05-01 00:00",
                "2024-05-01T11:00:00.000",
                "2024-05-02",
                "2024-05-03T00:00:00",
            ],
        ),
    ]
}

/// Every Arrow type of a column.
fn arrays() -> Vec<(&'static str, ArrayRef)> {
    let texts = |name: &str| -> Vec<Option<&'static str>> {
        let (_, cells) = canonical().into_iter().find(|(other, _)| *other == name).unwrap();
        cells.map(|cell| (!cell.is_empty()).then_some(cell)).to_vec()
    };
    let bytes = |name: &str| texts(name).into_iter().map(|text| text.map(str::as_bytes)).collect::<Vec<_>>();
    let mut arrays: Vec<(&'static str, ArrayRef)> = Vec::new();
    for (name, _) in canonical() {
        arrays.push((name, Arc::new(LargeStringArray::from(texts(name)))));
        arrays.push((name, Arc::new(StringViewArray::from(texts(name)))));
        arrays.push((name, Arc::new(texts(name).into_iter().collect::<DictionaryArray<Int8Type>>())));
        arrays.push((name, Arc::new(BinaryArray::from(bytes(name)))));
        arrays.push((name, Arc::new(LargeBinaryArray::from(bytes(name)))));
        arrays.push((name, Arc::new(BinaryViewArray::from(bytes(name)))));
    }
    let user = [Some(42_i64), None, Some(-7), Some(42), Some(0)];
    let f64s = |values: [Option<f64>; 5]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
    let numbers: ArrayRef = Arc::new(Int64Array::from(user.to_vec()));
    for kind in [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal32(9, 0),
        DataType::Decimal64(18, 2),
        DataType::Decimal128(20, 0),
        DataType::Decimal128(20, 4),
        DataType::Decimal256(60, 3),
        DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Int64)),
    ] {
        arrays.push(("user", cast(&numbers, &kind).unwrap()));
    }
    arrays.push(("user", f64s([Some(42.0), Some(f64::NAN), Some(-7.0), Some(42.0), Some(-0.0)])));
    arrays.push((
        "flag",
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true), Some(true)])),
    ));
    // 19753 days after 1970 is 2024-01-31 (`date -u -d @$((19753 * 86400))`).
    let day = [Some(19_753_i32), Some(19_754), None, Some(19_753), Some(19_754)];
    let day_seconds = day.map(|day| day.map(|day| i64::from(day) * 86_400));
    arrays.push(("day", Arc::new(Date32Array::from(day.to_vec()))));
    arrays.push((
        "day",
        Arc::new(Date64Array::from(day_seconds.map(|day| day.map(|day| day * 1000)).to_vec())),
    ));
    arrays.push(("day", Arc::new(TimestampSecondArray::from(day_seconds.to_vec()))));
    let noon = 19_753_i64 * 86_400_000 + 41_400_000;
    let at = [Some(noon), Some(19_753 * 86_400_000), None, Some(noon + 250), Some(19_753 * 86_400_000)];
    let scaled = |scale: i64| at.map(|at| at.map(|at| at * scale)).to_vec();
    arrays.push(("at", Arc::new(TimestampMillisecondArray::from(scaled(1)))));
    arrays
        .push(("at", Arc::new(TimestampMicrosecondArray::from(scaled(1000)).with_timezone("Europe/Berlin"))));
    arrays.push(("at", Arc::new(TimestampNanosecondArray::from(scaled(1_000_000)).with_timezone("UTC"))));
    let slot = [Some(3723), Some(86_399), None, Some(3723), Some(0)];
    let seconds: ArrayRef = Arc::new(Time32SecondArray::from(slot.to_vec()));
    arrays.push(("slot", cast(&seconds, &DataType::Time32(TimeUnit::Millisecond)).unwrap()));
    arrays.push(("slot", seconds));
    let micros = slot.map(|slot| slot.map(|slot| i64::from(slot) * 1_000_000));
    let micros: ArrayRef = Arc::new(Time64MicrosecondArray::from(micros.to_vec()));
    arrays.push(("slot", cast(&micros, &DataType::Time64(TimeUnit::Nanosecond)).unwrap()));
    arrays.push(("slot", micros));
    let padded = texts("word").into_iter().map(|word| word.map(|word| format!("{word:3}").into_bytes()));
    let padded = FixedSizeBinaryArray::try_from_sparse_iter_with_size(padded, 3).unwrap();
    arrays.push(("word", Arc::new(padded)));
    let history = [
        Some(vec![Some(7), Some(8)]),
        None,
        Some(vec![Some(8)]),
        Some(vec![Some(7), Some(7), Some(9)]),
        Some(vec![Some(9)]),
    ];
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(history));
    let item = |kind| Arc::new(arrow::datatypes::Field::new_list_field(kind, true));
    for kind in [DataType::Int64, DataType::Float64, DataType::Utf8, DataType::Decimal128(9, 2)] {
        arrays.push(("history", cast(&list, &DataType::List(item(kind.clone()))).unwrap()));
        arrays.push(("history", cast(&list, &DataType::LargeList(item(kind))).unwrap()));
    }
    let price = f64s([Some(1.5), None, Some(20.0), Some(3.0), Some(-0.25)]);
    for kind in [DataType::Float16, DataType::Float32, DataType::Float64, DataType::Decimal128(9, 3)] {
        arrays.push(("price", cast(&price, &kind).unwrap()));
    }
    arrays.push(("price", f64s([Some(1.5), Some(f64::NAN), Some(20.0), Some(3.0), Some(-0.25)])));
    arrays.push(("stock", Arc::new(Int16Array::from(vec![Some(1), Some(2), None, Some(4), Some(5)]))));
    arrays.push(("stock", f64s([Some(1.0), Some(2.0), Some(f64::NAN), Some(4.0), Some(5.0)])));
    arrays.push(("click", Arc::new(BooleanArray::from(vec![true, false, true, true, false]))));
    arrays.push(("click", Arc::new(Int8Array::from(vec![1, 0, 1, 1, 0]))));
    let halves =
        [1.0, 0.0, 1.0, 1.0, 0.0].map(<Float16Type as arrow::array::ArrowPrimitiveType>::Native::from_f32);
    arrays.push(("click", Arc::new(Float16Array::from(halves.to_vec()))));
    arrays.push((
        "click",
        Arc::new(Decimal128Array::from(vec![100, 0, 100, 100, 0]).with_precision_and_scale(5, 2).unwrap()),
    ));
    arrays.push(("conversion", Arc::new(Int32Array::from(vec![0, 0, 1, 0, 0]))));
    arrays.push(("rate", Arc::new(Float32Array::from(vec![0.5, 0.25, 1.0, 0.0, 0.125]))));
    // 1714521600 is 2024-05-01 UTC (`date -u -d @1714521600`).
    let time = [36_000_i64, 0, 39_600, 86_400, 172_800].map(|second| 1_714_521_600 + second);
    arrays.push(("time", Arc::new(TimestampSecondArray::from(time.to_vec()))));
    arrays.push((
        "time",
        Arc::new(TimestampNanosecondArray::from(time.map(|second| second * 1_000_000_000).to_vec())),
    ));
    arrays
}

#[test]
fn rows_are_the_same_however_a_csv_spells_them() {
    let folder = Folder::new();
    let expected = load(csv(&folder, &canonical()));
    assert_eq!(expected.report.valid.as_ref().map(|split| split.rows), Some(1));
    for (name, cells) in texts() {
        let mut columns = canonical();
        columns.iter_mut().filter(|(other, _)| *other == name).for_each(|column| column.1 = cells);
        assert!(load(csv(&folder, &columns)) == expected, "CSV: {name} as {cells:?}");
        let array: ArrayRef = Arc::new(StringArray::from(cells.to_vec()));
        assert!(load(parquet(&folder, name, &array)) == expected, "Parquet: {name} as {cells:?}");
    }
}

#[test]
fn rows_are_the_same_whatever_their_arrow_types() {
    let folder = Folder::new();
    let expected = load(csv(&folder, &canonical()));
    for (name, array) in arrays() {
        assert!(load(parquet(&folder, name, &array)) == expected, "{name} as {}", array.data_type());
    }
}

#[test]
fn a_decimal_comma_makes_no_difference() {
    let folder = Folder::new();
    let expected = load(csv(&folder, &canonical()));
    let mut columns = canonical();
    let commas = [
        ("price", ["1,5", "", "20", "3,0", "-0,25"]),
        ("pairs", ["7:0,5|8:2,0", "", "8:1", "7:0,25", "9,0:1"]),
    ];
    for (name, cells) in commas.into_iter().chain([("rate", ["0,5", "0,25", "1", "0", "0,125"])]) {
        columns.iter_mut().filter(|(other, _)| *other == name).for_each(|column| column.1 = cells);
    }
    let mut source = csv(&folder, &columns);
    source.spelling = Spelling { decimal: ',', ..Spelling::default() };
    assert!(load(source) == expected);
}

/// What a float may have merged, what no text is, and what a type cannot be is refused, with its place.
#[test]
fn what_has_no_key_is_refused() {
    let folder = Folder::new();
    let fails = |array: ArrayRef| {
        let source = folder.parquet("a.parquet", vec![("x", array)]);
        folder.message(&super::encode(&source, &[sparse("x", vocabulary())]).unwrap_err())
    };
    let rounded = fails(Arc::new(StringArray::from(vec!["1", "1.4334955861976133e+17"])));
    assert!(rounded.starts_with("a.parquet: row 2: column `x`: found `1.4334955861976133e+17`, allowed is a whole number below 2^53"), "{rounded}");
    let bytes = fails(Arc::new(BinaryArray::from(vec![&b"a"[..], b"\xff\x00"])));
    assert!(
        bytes.contains("row 2: column `x`") && bytes.contains("UTF-8 text in a binary column"),
        "{bytes}"
    );
    let fraction = Decimal128Array::from(vec![100, 150]).with_precision_and_scale(9, 2).unwrap();
    let fraction = fails(Arc::new(fraction));
    assert!(
        fraction.starts_with("a.parquet: row 2: column `x`: found `1.50`, allowed is a whole number"),
        "{fraction}"
    );
}

/// Run directories of format version 1 say no spelling: their keys are exact texts.
#[test]
fn the_exact_spelling_reads_what_stands_there() {
    let folder = Folder::new();
    let mut source = folder.text("a.csv", "x\n42\n42.0\n True\nNULL\n");
    source.spelling = Spelling::exact();
    let encoded = super::encode(&source, &[sparse("x", vocabulary())]).unwrap();
    let mut rows = super::single(&encoded, 0).to_vec();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), 4);
    let saved: SourceSpec = serde_json::from_str(r#"{"paths": ["a.csv"]}"#).unwrap();
    assert_eq!(saved.spelling, Spelling::exact());
}
