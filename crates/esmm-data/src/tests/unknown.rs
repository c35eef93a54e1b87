//! Missing, unknown and outside values: each is seen, counted and read as it is.

use std::sync::Arc;

use super::{Folder, bag, data_spec, dense, encode_with, feature, names, sparse, vocabulary};
use crate::load::files::{StreamOptions, in_files};
use crate::load::memory::in_memory;
use crate::stream::FileRows;
use crate::{
    DenseTransform, EncoderFitter, FeatureKind, FeatureSpec, FittedEncoders, LabelSpec, MISSING, Outside,
    SourceSpec, SparseColumn, SparseEncoding, SplitSpec, TrainedRows, UnknownRow, ValueCounter,
};

const RAW: SparseEncoding = SparseEncoding::Raw { num_embeddings: 10 };

/// Encoders as a training fits them, with a row of its own for unknown values.
fn fitted(source: &SourceSpec, specs: &[FeatureSpec]) -> FittedEncoders {
    let mut fitter = EncoderFitter::new(specs.to_vec()).unwrap();
    for chunk in source.open(&fitter.required_columns()).unwrap() {
        let chunk = chunk.unwrap();
        fitter.observe(&chunk, &vec![true; chunk.rows()]).unwrap();
    }
    fitter.finish().unwrap()
}

#[test]
fn missing_and_unknown_values_have_rows_of_their_own() {
    let folder = Folder::new();
    let specs = [sparse("x", vocabulary()), bag("y", vocabulary(), esmm_core::Pooling::Sum, false)];
    let encoders = fitted(&folder.text("train.csv", "x,y\na,p|q\na,p\nb,\n"), &specs);
    let encoded = encode_with(&encoders, &folder.text("new.csv", "x,y\nb,q|new\n,\nnew,new\na,p\n")).unwrap();
    assert_eq!(encoded.sparse[0].ids(), [3, 0, 1, 2]);
    assert_eq!(encoded.sparse[1].ids(), [3, 1, 1, 2]);
    let values = |feature: usize, row| encoders.sparse_value(feature, row).unwrap();
    assert_eq!([0, 1, 2, 3].map(|row| values(0, row)), ["missing", "unknown", "a", "b"]);
    let [x, y] = &encoded.counts.features[..] else { panic!("{:?}", encoded.counts) };
    assert_eq!((x.values, x.missing, x.unknown), (4, 1, 1));
    assert_eq!((y.values, y.missing, y.unknown), (4, 0, 2));
    assert_eq!(encoders.unknown_rows(), [Some(UnknownRow::Own); 2]);
}

/// Encoders of before have one row for both, and count them apart all the same.
#[test]
fn values_are_counted_apart_where_they_share_a_row() {
    let folder = Folder::new();
    let mut fitter =
        EncoderFitter::new(vec![sparse("x", vocabulary())]).unwrap().with_unknown_row(UnknownRow::OfMissing);
    let source = folder.text("train.csv", "x\na\n");
    let chunk = source.open(&names(&["x"])).unwrap().next().unwrap().unwrap();
    fitter.observe(&chunk, &[true]).unwrap();
    let encoders = fitter.finish().unwrap();
    let encoded = encode_with(&encoders, &folder.text("new.csv", "x\nnew\n\"\"\na\n")).unwrap();
    assert_eq!(encoded.sparse[0], SparseColumn::Single(vec![0, 0, 1]));
    let counts = &encoded.counts.features[0];
    assert_eq!((counts.missing, counts.unknown), (1, 1));
    assert_eq!(encoders.sparse_value(0, MISSING).as_deref(), Some("missing or unknown"));
}

#[test]
fn hash_buckets_and_ranges_know_every_value() {
    let folder = Folder::new();
    let encodings = [SparseEncoding::Hash { buckets: 4 }, RAW, SparseEncoding::Quantile { buckets: 2 }];
    let specs =
        encodings.map(|encoding| FeatureSpec { name: format!("{encoding:?}"), ..sparse("x", encoding) });
    let encoders = fitted(&folder.text("a.csv", "x\n1\n2\n"), &specs);
    assert_eq!(encoders.unknown_rows(), [None; 3]);
    assert_eq!(encoders.sparse_value(1, 0).as_deref(), Some("missing"));
    assert_eq!(encoders.sparse_value(1, 1).as_deref(), Some("0"));
}

fn outside(rule: Outside, spec: FeatureSpec) -> FeatureSpec {
    FeatureSpec { outside: rule, ..spec }
}

#[test]
fn one_bad_cell_does_not_end_a_scoring_and_is_counted() {
    let folder = Folder::new();
    let log = || dense("price", DenseTransform::Log1p, Some(1.0));
    let raw = || sparse("hour", RAW);
    let new = folder.text("new.csv", "price,hour\n-3,11\n0,3\n7,-1\n");
    let train = folder.text("train.csv", "price,hour\n1,2\n");
    for (rule, prices, hours) in [
        (Outside::Clip, [0.0, 0.0, 8.0_f32.ln()], [0, 4, 0]),
        (Outside::Missing, [2.0_f32.ln(), 0.0, 8.0_f32.ln()], [0, 4, 0]),
    ] {
        let encoders = fitted(&train, &[outside(rule, log()), outside(rule, raw())]);
        let encoded = encode_with(&encoders, &new).unwrap();
        assert_eq!(encoded.dense, [prices.to_vec()], "{rule:?}");
        assert_eq!(encoded.sparse[0].ids(), hours, "{rule:?}");
        let counts: Vec<u64> = encoded.counts.features.iter().map(|feature| feature.outside).collect();
        assert_eq!(counts, [1, 2], "{rule:?}");
        let strict = folder.message(&encode_with(&encoders.strict(), &new).unwrap_err());
        assert_eq!(strict, "new.csv:2: column `price`: found `-3`, allowed is a number from 0 on, for log1p");
    }
    let encoders = fitted(&train, &[outside(Outside::Error, raw()), log()]);
    let error = folder.message(&encode_with(&encoders, &new).unwrap_err());
    assert_eq!(error, "new.csv:2: column `hour`: found `11`, allowed is a whole number from 0 to 9");
    // A text is near to no id.
    let encoders = fitted(&train, &[raw()]);
    let error =
        folder.message(&encode_with(&encoders, &folder.text("text.csv", "hour\nnoon\n")).unwrap_err());
    assert_eq!(error, "text.csv:2: column `hour`: found `noon`, allowed is a whole number from 0 to 9");
}

/// A text where a number is expected may be a column that was mixed up: only a rule makes it missing.
#[test]
fn a_text_that_is_no_number_is_missing_by_rule_only() {
    let folder = Folder::new();
    let train = folder.text("train.csv", "x\n1\n2\n3\n4\n");
    let new = folder.text("new.csv", "x\nabc\n");
    let kinds = [
        FeatureKind::Dense { transform: DenseTransform::None, missing: Some(2.0) },
        FeatureKind::Dense { transform: DenseTransform::Standardize, missing: Some(2.0) },
        FeatureKind::Dense { transform: DenseTransform::Log1p, missing: Some(2.0) },
        FeatureKind::Dense { transform: DenseTransform::PiecewiseLinear { bins: 2 }, missing: Some(2.0) },
        sparse("x", SparseEncoding::Quantile { buckets: 2 }).kind,
    ];
    for kind in kinds {
        let encoders = |rule| fitted(&train, &[outside(rule, feature("x", kind.clone()))]);
        for rule in [Outside::Clip, Outside::Error] {
            let error = folder.message(&encode_with(&encoders(rule), &new).unwrap_err());
            assert!(
                error.starts_with("new.csv:2: column `x`: found `abc`, allowed is a finite number"),
                "{error}"
            );
        }
        let encoded = encode_with(&encoders(Outside::Missing), &new).unwrap();
        let missing =
            encode_with(&encoders(Outside::Missing), &folder.text("nothing.csv", "x\n\"\"\n")).unwrap();
        assert_eq!((&encoded.dense, &encoded.sparse), (&missing.dense, &missing.sparse), "{kind:?}");
        assert_eq!((encoded.counts.features[0].outside, missing.counts.features[0].outside), (1, 0));
    }
    let error = EncoderFitter::new(vec![outside(Outside::Missing, dense("x", DenseTransform::None, None))]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("outside = \"missing\" needs `missing`"), "{error}");
}

/// Rows of all splits in one file: what is wrong in a row that tests is replaced, in a row that trains it is an error that
/// names the row; in memory and in files, whatever else is in the chunk.
#[test]
fn a_bad_cell_of_a_training_row_is_an_error() {
    let folder = Folder::new();
    let options = StreamOptions { memory: 1 << 30, shuffle_rows: 100, by_group: true };
    // By time, row 5 trains and row 17 tests.
    let file = |train: i32, test: i32| {
        let price = |row: i32| match row {
            5 => train,
            17 => test,
            _ => 1,
        };
        let rows: String = (0..20).map(|row| format!("{row},{},1,0\n", price(row))).collect();
        format!("time,price,click,conversion\n{rows}")
    };
    let load = |text: String, name: &str| {
        let source = folder.text(name, text);
        let split =
            SplitSpec::Date { source, column: "time".into(), valid_from: None, test_from: Some("15".into()) };
        let features = [dense("price", DenseTransform::Log1p, None)];
        let spec = data_spec(&split, &features, &LabelSpec::new(["click", "conversion"]), None, None);
        let memory = in_memory(&spec, true).map(|loaded| loaded.test.unwrap().dense[0].clone());
        let files = in_files(&spec, options).and_then(|loaded| {
            loaded.train.first(100)?;
            Ok(loaded.test.unwrap().first(100)?.dense[0].clone())
        });
        let [memory, files] = [memory, files].map(|found| found.map_err(|error| folder.message(&error)));
        assert_eq!(memory, files);
        memory
    };
    let expected = [1, 1, 0, 1, 1].map(|price| (price as f32).ln_1p());
    assert_eq!(load(file(1, -2), "test.csv").unwrap(), expected);
    for test in [1, -9] {
        let error = load(file(-4, test), "train.csv").unwrap_err();
        let told = "train.csv:7: column `price`: found `-4`, allowed is a number from 0 on, for log1p";
        assert_eq!(error, told);
    }
}

#[test]
fn rows_that_no_training_row_has_are_counted() {
    let folder = Folder::new();
    let specs = [sparse("x", SparseEncoding::Hash { buckets: 50 }), dense("z", DenseTransform::None, None)];
    let encoders = fitted(&folder.text("train.csv", "x,z\na,1\n"), &specs);
    let mut trained = TrainedRows::none(encoders.schema());
    let seen = encode_with(&encoders, &folder.text("seen.csv", "x,z\na,1\n")).unwrap();
    trained.add(0, seen.sparse[0].ids());
    let new = folder.text("new.csv", "x,z,click,conversion\na,1,0,0\nb,1,0,0\nc,1,0,0\n,1,1,1\n");
    let counter = Arc::new(ValueCounter::new(&encoders, Some(trained)));
    let labels = LabelSpec::new(["click", "conversion"]);
    let rows =
        FileRows::open(&new, &encoders, &labels, None, None, &crate::CountSpec::default(), true).unwrap();
    rows.counted_by(counter.clone()).first(10).unwrap();
    let counts = counter.counts();
    assert_eq!(
        counts.features[0].untrained,
        Some(3),
        "a text of another bucket, and the missing one: {counts:?}"
    );
    assert_eq!(counts.features[1].untrained, None);
    assert!(counts.warnings()[0].contains("`x`: 75% of its values have a row"), "{counts:?}");
}
