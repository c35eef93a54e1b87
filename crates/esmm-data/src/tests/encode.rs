//! Encoding: keys, tables, bags, reals, and what is not allowed in a cell.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray, NullArray, StringArray, StringViewArray,
    UInt16Array, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use esmm_core::{DenseFeature, Feature, Pooling, Side};

use super::{Folder, bag, bag_column, dense, encode, encode_with, fit, single, sparse, vocabulary};
use crate::{
    DenseTransform, EncoderFitter, FeatureKind, FeatureSpec, FittedEncoders, SourceSpec, SparseEncoding,
};

const HASH: SparseEncoding = SparseEncoding::Hash { buckets: 1000 };
pub(super) const RAW: SparseEncoding = SparseEncoding::Raw { num_embeddings: 10 };

pub(super) fn failure(folder: &Folder, source: &SourceSpec, specs: &[FeatureSpec]) -> String {
    let encoded = fit(source, specs).and_then(|encoders| encode_with(&encoders.strict(), source));
    folder.message(&encoded.unwrap_err())
}

fn setting(specs: Vec<FeatureSpec>) -> String {
    EncoderFitter::new(specs).unwrap_err().to_string()
}

pub(super) fn column(array: impl Array + 'static) -> Vec<(&'static str, ArrayRef)> {
    vec![("x", Arc::new(array))]
}

/// Encoders that were fitted on the text of a CSV.
fn fitted_on_text(folder: &Folder, values: &[&str], encoding: SparseEncoding) -> FittedEncoders {
    fit(&folder.text("fit.csv", format!("x\n{}\n", values.join("\n"))), &[sparse("x", encoding)]).unwrap()
}

fn ids(folder: &Folder, encoders: &FittedEncoders, columns: Vec<(&str, ArrayRef)>) -> Vec<u32> {
    let encoded = encode_with(encoders, &folder.parquet("a.parquet", columns)).unwrap();
    single(&encoded, 0).to_vec()
}

pub(super) fn with_weights_column(name: &str) -> FeatureSpec {
    let mut spec = bag(name, vocabulary(), Pooling::Sum, false);
    if let FeatureKind::Sparse { weights_column, .. } = &mut spec.kind {
        *weights_column = Some("w".into());
    }
    spec
}

#[test]
fn a_vocabulary_gives_frequent_keys_the_first_rows() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "x,y\nb,1\na,1\nb,\nc,\n,1\na,2\nb,2\n");
    let specs = [sparse("x", SparseEncoding::Vocabulary { min_count: 2 }), sparse("y", vocabulary())];
    let encoded = encode(&source, &specs).unwrap();
    assert_eq!(single(&encoded, 0), [1, 2, 1, 0, 0, 2, 1]);
    assert_eq!(single(&encoded, 1), [1, 1, 0, 0, 1, 2, 2]);
    let encoders = fit(&source, &specs).unwrap();
    let expected = [Feature::sparse("x", Side::User, 3), Feature::sparse("y", Side::User, 3)];
    assert_eq!(encoders.schema().features(), expected);
    assert_eq!(encoders.required_columns(), ["x", "y"]);
}

#[test]
fn only_rows_that_are_kept_are_fitted() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "x,z\na,1\nb,3\nc,100\n");
    let buckets =
        FeatureSpec { column: "z".into(), ..sparse("bucket", SparseEncoding::Quantile { buckets: 3 }) };
    let specs = vec![sparse("x", vocabulary()), dense("z", DenseTransform::Standardize, None), buckets];
    let mut fitter = EncoderFitter::new(specs).unwrap();
    assert!(fitter.needs_data());
    assert_eq!(fitter.required_columns(), ["x", "z"]);
    let chunk = source.open(&fitter.required_columns()).unwrap().next().unwrap().unwrap();
    fitter.observe(&chunk, &[true, true, false]).unwrap();
    let encoders = fitter.finish().unwrap();
    assert_eq!(encoders.required_columns(), ["x", "z"]);
    let encoded = encoders.encode(&chunk).unwrap();
    assert_eq!(single(&encoded, 0), [2, 3, 1]);
    assert_eq!(single(&encoded, 1), [1, 2, 2]);
    assert_eq!(encoded.dense, [[-1.0, 1.0, 98.0]]);
}

#[test]
fn the_same_key_comes_from_every_type() {
    let folder = Folder::new();
    for encoding in [vocabulary(), HASH] {
        let encoders = fitted_on_text(&folder, &["42", "-7", "042", "true", "2024-01-31"], encoding);
        let text = StringArray::from(vec![Some("42"), Some("-7"), None]);
        let expected = ids(&folder, &encoders, column(text));
        assert!(expected[0] > 0 && expected[1] > 0 && expected[0] != expected[1] && expected[2] == 0);
        let same: Vec<Vec<(&str, ArrayRef)>> = vec![
            column(Int8Array::from(vec![Some(42), Some(-7), None])),
            column(Int32Array::from(vec![Some(42), Some(-7), None])),
            column(Int64Array::from(vec![Some(42), Some(-7), None])),
            column(Float32Array::from(vec![42.0, -7.0, f32::NAN])),
            column(Float64Array::from(vec![Some(42.0), Some(-7.0), None])),
            column(LargeStringArray::from(vec!["42", "-7", ""])),
            column(StringViewArray::from(vec!["42", "-7", ""])),
            column(
                Decimal128Array::from(vec![Some(42), Some(-7), None])
                    .with_precision_and_scale(20, 0)
                    .unwrap(),
            ),
            column([Some("42"), Some("-7"), None].into_iter().collect::<DictionaryArray<Int32Type>>()),
        ];
        for columns in same {
            let kind = columns[0].1.data_type().clone();
            assert_eq!(ids(&folder, &encoders, columns), expected, "{kind}");
        }
        assert_eq!(ids(&folder, &encoders, column(UInt16Array::from(vec![42]))), expected[..1]);
        let text_42 = ids(&folder, &encoders, column(StringArray::from(vec!["042"])));
        assert!(text_42[0] > 0 && text_42[0] != expected[0]);
        let texts = ids(&folder, &encoders, column(StringArray::from(vec!["true", "2024-01-31"])));
        assert!(texts[0] > 0 && texts[1] > 0);
        assert_eq!(ids(&folder, &encoders, column(BooleanArray::from(vec![true]))), texts[..1]);
        assert_eq!(ids(&folder, &encoders, column(Date32Array::from(vec![19_753]))), texts[1..]);
        assert_eq!(ids(&folder, &encoders, column(NullArray::new(2))), [0, 0]);
    }
}

#[test]
fn ids_do_not_pass_through_floats() {
    let folder = Folder::new();
    let large = ["9007199254740993", "9007199254740992", "18446744073709551615", "18446744073709551614"];
    let encoders = fitted_on_text(&folder, &large, vocabulary());
    assert_eq!(encoders.schema().num_rows(), 5);
    let numbers = large.map(|text| text.parse::<u64>().unwrap()).to_vec();
    let mut rows = ids(&folder, &encoders, column(UInt64Array::from(numbers)));
    rows.sort_unstable();
    assert_eq!(rows, [1, 2, 3, 4]);
    let float = folder.parquet("f.parquet", column(Float64Array::from(vec![1.0, 9_007_199_254_740_992.0])));
    assert_eq!(
        failure(&folder, &float, &[sparse("x", vocabulary())]),
        "f.parquet: row 2: column `x`: found `9007199254740992`, allowed is a whole number below 2^53 in a column of floats"
    );
    let float = folder.parquet("f.parquet", column(Float32Array::from(vec![16_777_215.0, 16_777_216.0])));
    assert_eq!(
        failure(&folder, &float, &[sparse("x", vocabulary())]),
        "f.parquet: row 2: column `x`: found `16777216`, allowed is a whole number below 2^24 in a column of 32-bit floats"
    );
    let float = folder.parquet("f.parquet", column(Float64Array::from(vec![3.0, 2.5])));
    let message = failure(&folder, &float, &[sparse("x", HASH)]);
    assert!(message.starts_with("f.parquet: row 2: column `x`: found `2.5`"), "{message}");
}

/// XXH64 with seed 0x45534D4D over the canonical text, from the Python package xxhash 3.5.0:
/// `[xxhash.xxh64(t, seed=0x45534D4D).intdigest() % 1000 + 1 for t in ("42", "-7", "abc")]`.
#[test]
fn hash_buckets_stay_the_same() {
    let folder = Folder::new();
    let encoded =
        encode(&folder.text("a.csv", "x,y\n42,1\n-7,1\nabc,1\n,1\n"), &[sparse("x", HASH)]).unwrap();
    assert_eq!(single(&encoded, 0), [185, 740, 801, 0]);
    let encoders = fit(&folder.text("a.csv", "x\n1\n"), &[sparse("x", HASH)]).unwrap();
    assert_eq!(encoders.schema().num_rows(), 1001);
}

#[test]
fn raw_ids_use_the_row_behind_them() {
    let folder = Folder::new();
    let specs = [sparse("x", RAW)];
    let encoded = encode(&folder.text("a.csv", "x,y\n0,1\n9,1\n,1\n"), &specs).unwrap();
    assert_eq!(single(&encoded, 0), [1, 10, 0]);
    assert_eq!(fit(&folder.text("a.csv", "x\n1\n"), &specs).unwrap().schema().num_rows(), 11);
    for bad in ["10", "-1", "1.5", "abc", "01"] {
        let message = failure(&folder, &folder.text("a.csv", format!("x\n1\n{bad}\n")), &specs);
        assert_eq!(
            message,
            format!("a.csv:3: column `x`: found `{bad}`, allowed is a whole number from 0 to 9")
        );
    }
}

#[test]
fn quantiles_cut_training_values_into_equal_buckets() {
    let folder = Folder::new();
    let specs = [sparse("x", SparseEncoding::Quantile { buckets: 2 })];
    let source = folder.text("a.csv", "x,y\n4,1\n1,1\n,1\n3,1\n2,1\n");
    assert_eq!(single(&encode(&source, &specs).unwrap(), 0), [2, 1, 0, 2, 1]);
    assert_eq!(fit(&source, &specs).unwrap().schema().num_rows(), 3);
    assert_eq!(single(&encode(&folder.text("n.csv", "x\n1\nNaN\n2\n"), &specs).unwrap(), 0), [1, 0, 2]);
    let message = failure(&folder, &folder.text("a.csv", "x\n1\ninf\n"), &specs);
    assert_eq!(message, "a.csv:3: column `x`: found `inf`, allowed is a finite number");
}

#[test]
fn shared_tables_are_fitted_on_the_values_of_both() {
    let folder = Folder::new();
    let mut history = bag("history", HASH, Pooling::Mean, false);
    if let FeatureKind::Sparse { shares, .. } = &mut history.kind {
        *shares = Some("item".into());
    }
    let source = folder.text("a.csv", "item,history\n1,2|3|3\n2,3\n");
    let encoders = fit(&source, &[history, sparse("item", vocabulary())]).unwrap();
    let encoded = encode_with(&encoders, &source).unwrap();
    assert_eq!(encoded.sparse[0], bag_column(&[0, 3, 4], &[2, 1, 1, 1], None));
    assert_eq!(single(&encoded, 1), [3, 2]);
    assert_eq!(encoders.schema().num_rows(), 4);
}

#[test]
fn dense_values_are_transformed_and_missing_ones_filled() {
    let folder = Folder::new();
    let source = folder.text("a.csv", "x,y,z\n1,1,0\n3,,1\n");
    let specs = [
        dense("x", DenseTransform::None, None),
        dense("y", DenseTransform::Standardize, Some(3.0)),
        dense("z", DenseTransform::Log1p, None),
    ];
    assert_eq!(encode(&source, &specs).unwrap().dense, [[1.0, 3.0], [-1.0, 1.0], [0.0, 2.0_f32.ln()]]);
    let constant = folder.text("c.csv", "x\n7\n7\n");
    assert_eq!(
        encode(&constant, &[dense("x", DenseTransform::Standardize, None)]).unwrap().dense,
        [[0.0, 0.0]]
    );
    let types: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![3])),
        Arc::new(Float32Array::from(vec![3.0])),
        Arc::new(LargeStringArray::from(vec!["3e0"])),
        Arc::new(Decimal128Array::from(vec![300]).with_precision_and_scale(10, 2).unwrap()),
    ];
    for array in types {
        let source = folder.parquet("t.parquet", vec![("x", array)]);
        assert_eq!(encode(&source, &[dense("x", DenseTransform::None, None)]).unwrap().dense, [[3.0]]);
    }
    let flag = folder.parquet("b.parquet", column(BooleanArray::from(vec![true, false])));
    assert_eq!(encode(&flag, &[dense("x", DenseTransform::None, None)]).unwrap().dense, [[1.0, 0.0]]);
}

/// Edges 0, 2, 4 of the five rows; the position among their bins. A missing value is filled before it is cut, and what lies outside is the nearest end.
#[test]
fn numbers_are_cut_into_pieces() {
    let folder = Folder::new();
    let ple = |bins, missing| dense("x", DenseTransform::PiecewiseLinear { bins }, missing);
    let specs =
        [dense("y", DenseTransform::None, None), ple(2, Some(1.0)), dense("z", DenseTransform::None, None)];
    let encoders = fit(&folder.text("a.csv", "x,y,z\n0,5,6\n1,5,6\n2,5,6\n3,5,6\n4,5,6\n"), &specs).unwrap();
    let columns: Vec<_> = encoders.schema().dense().flat_map(DenseFeature::columns).collect();
    assert_eq!(columns, ["y", "x[1]", "x[2]", "z"]);
    let other = folder.text("b.csv", "x,y,z\n3,1,7\n-9,2,8\n9,3,9\n,4,0\n");
    let encoded = encode_with(&encoders, &other).unwrap();
    let expected: [[f32; 4]; 3] = [[1.0, 2.0, 3.0, 4.0], [1.5, 0.0, 2.0, 0.5], [7.0, 8.0, 9.0, 0.0]];
    assert_eq!(encoded.dense, expected);
    assert_eq!([0.5, 1.5].map(|position| encoders.dense_value(1, position)), [Some(1.0), Some(3.0)]);

    let message = failure(&folder, &other, &[ple(2, None)]);
    assert!(message.starts_with("b.csv:5: column `x`: found nothing"), "{message}");
    let same = folder.text("c.csv", "x\n7\n7\n");
    assert_eq!(encode(&same, &[ple(3, None)]).unwrap().dense, [[0.0; 2]]);
    let setting = |bins| EncoderFitter::new(vec![ple(bins, None)]).unwrap_err().to_string();
    assert_eq!(setting(0), "feature `x`: bins = 0, it must be 1 to 1024");
}

#[test]
fn bad_dense_values_say_where() {
    let folder = Folder::new();
    let fails = |transform, cell: &str| {
        let source = folder.text("a.csv", format!("x,y\n1,1\n{cell},1\n"));
        failure(&folder, &source, &[dense("x", transform, None)])
    };
    for transform in [DenseTransform::None, DenseTransform::Standardize, DenseTransform::Log1p] {
        for bad in ["abc", "inf", "1 2", "1_000"] {
            let message = fails(transform, bad);
            assert_eq!(message, format!("a.csv:3: column `x`: found `{bad}`, allowed is a finite number"));
        }
        for nothing in ["", "NaN", "NULL"] {
            assert_eq!(
                fails(transform, nothing),
                "a.csv:3: column `x`: found nothing, allowed is a finite number \
                 (or let the feature's `missing` say what stands for it)"
            );
        }
        assert_eq!(
            fails(transform, "\"1,5\""),
            "a.csv:3: column `x`: found `1,5` (for a decimal comma say data.decimal = \",\"), allowed is a finite number"
        );
    }
    let message = fails(DenseTransform::Log1p, "-0.5");
    assert_eq!(message, "a.csv:3: column `x`: found `-0.5`, allowed is a number from 0 on, for log1p");
    let float = folder.parquet("a.parquet", column(Float64Array::from(vec![1.0, f64::NAN])));
    let filled = encode(&float, &[dense("x", DenseTransform::None, Some(7.0))]).unwrap();
    assert_eq!(filled.dense, [[1.0, 7.0]]);
    let float = folder.parquet("i.parquet", column(Float64Array::from(vec![1.0, f64::INFINITY])));
    let message = failure(&folder, &float, &[dense("x", DenseTransform::None, Some(0.0))]);
    assert_eq!(message, "i.parquet: row 2: column `x`: found `inf`, allowed is a finite number");
    let date = folder.parquet("d.parquet", column(Date32Array::from(vec![1])));
    let message = failure(&folder, &date, &[dense("x", DenseTransform::None, None)]);
    assert_eq!(
        message,
        "d.parquet: column `x` is Date32, allowed are numbers, booleans and text that is a number"
    );
}

#[test]
fn lists_need_a_pooling() {
    let folder = Folder::new();
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)])]);
    let message = failure(&folder, &folder.parquet("a.parquet", column(list)), &[sparse("x", vocabulary())]);
    assert!(message.starts_with("a.parquet: column `x` is List("), "{message}");
    assert!(message.ends_with("; a feature of lists needs a pooling"), "{message}");
    let decimal = Decimal128Array::from(vec![300, 350]).with_precision_and_scale(10, 2).unwrap();
    let message =
        failure(&folder, &folder.parquet("b.parquet", column(decimal)), &[sparse("x", vocabulary())]);
    assert!(
        message.starts_with("b.parquet: row 2: column `x`: found `3.50`, allowed is a whole number"),
        "{message}"
    );
}

#[test]
fn features_that_cannot_be_are_errors() {
    let weightless = FeatureSpec { kind: with_weights_column("x").kind, ..sparse("x", vocabulary()) };
    let mut no_bag = weightless.clone();
    if let FeatureKind::Sparse { bag, .. } = &mut no_bag.kind {
        *bag = None;
    }
    assert_eq!(setting(vec![no_bag]), "feature `x`: only a bag has weights, give it a pooling");
    assert_eq!(setting(vec![]), "the feature schema is empty: at least one feature is needed");
    let quantile = SparseEncoding::Quantile { buckets: 4 };
    let message = setting(vec![bag("x", quantile, Pooling::Sum, false)]);
    assert_eq!(message, "feature `x`: quantile buckets take one value a row, not a bag");
    let hash = setting(vec![sparse("x", SparseEncoding::Hash { buckets: 0 })]);
    assert_eq!(hash, "feature `x`: buckets = 0, it must be 1 to 4294967294");
    let quantile = setting(vec![sparse("x", SparseEncoding::Quantile { buckets: 1 })]);
    assert_eq!(quantile, "feature `x`: buckets = 1, it must be 2 to 4294967294");
    let raw = setting(vec![sparse("x", SparseEncoding::Raw { num_embeddings: 1 << 40 })]);
    assert_eq!(raw, "feature `x`: num_embeddings = 1099511627776, it must be 1 to 4294967294");
    let missing = setting(vec![dense("x", DenseTransform::Log1p, Some(-1.0))]);
    assert_eq!(missing, "feature `x`: missing = -1, with log1p it must not be negative");
    let missing = setting(vec![dense("x", DenseTransform::None, Some(f32::NAN))]);
    assert_eq!(missing, "feature `x`: missing must be a finite number");
    let nameless = setting(vec![FeatureSpec { column: String::new(), ..sparse("x", HASH) }]);
    assert_eq!(nameless, "feature `x`: its column has no name");
    assert!(EncoderFitter::new(vec![]).unwrap_err().is_setting());
}

#[test]
fn an_encoded_chunk_is_a_dataset_without_outcomes() {
    let folder = Folder::new();
    let data =
        encode(&folder.text("a.csv", "x\na\nb\n"), &[sparse("x", vocabulary())]).unwrap().into_dataset();
    assert_eq!((data.rows, data.depth, data.group, data.truth), (2, vec![0, 0], None, None));
}
