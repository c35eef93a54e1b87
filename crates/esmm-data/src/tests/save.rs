//! Encoders in files: the same after reading, the same bytes after writing, damage found.

use std::fs;
use std::path::Path;

use esmm_core::Pooling;

use super::{Folder, bag, dense, fit, sparse, vocabulary};
use crate::{
    DenseTransform, FEATURES_FILE, FeatureKind, FeatureSpec, FittedEncoders, SparseEncoding,
    VOCABULARIES_FILE,
};

/// One feature of every kind.
fn encoders(folder: &Folder) -> FittedEncoders {
    let mut shared = bag("history", vocabulary(), Pooling::Mean, true);
    if let FeatureKind::Sparse { shares, .. } = &mut shared.kind {
        *shares = Some("item".into());
    }
    let specs = [
        sparse("item", vocabulary()),
        shared,
        sparse("city", SparseEncoding::Vocabulary { min_count: 2 }),
        sparse("hash", SparseEncoding::Hash { buckets: 5 }),
        sparse("raw", SparseEncoding::Raw { num_embeddings: 9 }),
        sparse("age", SparseEncoding::Quantile { buckets: 3 }),
        dense("price", DenseTransform::Standardize, Some(0.1)),
        dense("spend", DenseTransform::Log1p, None),
        FeatureSpec {
            name: "spend in pieces".into(),
            ..dense("spend", DenseTransform::PiecewiseLinear { bins: 4 }, Some(2.0))
        },
    ];
    let header = "item,history,city,hash,raw,age,price,spend\n";
    let lines =
        "7,8:1|042:2,a b,x,1,0.1,0.1,1\n8,,\"é\n,\",y,2,0.2,0.7,1\n7,7:1,a b,z,3,1e-300,12345.678,1\n";
    fit(&folder.text("a.csv", format!("{header}{lines}")), &specs).unwrap()
}

fn load_failure(folder: &Folder) -> String {
    folder.message(&FittedEncoders::load(folder.0.path()).unwrap_err())
}

#[test]
fn what_is_read_is_what_was_written() {
    let folder = Folder::new();
    let encoders = encoders(&folder);
    encoders.save(folder.0.path()).unwrap();
    let loaded = FittedEncoders::load(folder.0.path()).unwrap();
    assert_eq!(loaded, encoders);
    let bytes = |name| fs::read(folder.path(name)).unwrap();
    let before = (bytes(FEATURES_FILE), bytes(VOCABULARIES_FILE));
    loaded.save(folder.0.path()).unwrap();
    assert_eq!((bytes(FEATURES_FILE), bytes(VOCABULARIES_FILE)), before);
    let mut names: Vec<_> =
        fs::read_dir(folder.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.csv", FEATURES_FILE, VOCABULARIES_FILE]);
}

#[test]
fn encoders_without_a_vocabulary_are_saved_too() {
    let folder = Folder::new();
    let encoders = fit(&folder.text("a.csv", "x\n1\n"), &[dense("x", DenseTransform::None, None)]).unwrap();
    encoders.save(folder.0.path()).unwrap();
    assert_eq!(FittedEncoders::load(folder.0.path()).unwrap(), encoders);
}

#[test]
fn a_saving_appears_whole_or_not_at_all() {
    let folder = Folder::new();
    let error = encoders(&folder).save(Path::new(&folder.path("gone"))).unwrap_err();
    let message = folder.message(&error);
    assert!(message.starts_with("gone/vocabularies.parquet: "), "{message}");
    assert!(!Path::new(&folder.path("gone")).exists());
}

/// A device on which every write fails for lack of space.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_line_that_names_the_file() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let vocabulary = crate::encode::vocabulary::Vocabulary::default();
    let written = crate::encode::vocabulary_file::write(
        &full,
        Path::new("v.parquet"),
        [("x", &vocabulary)].into_iter(),
    );
    let message = written.unwrap_err().to_string();
    assert!(message.starts_with("v.parquet: ") && message.contains("No space left"), "{message}");
}

#[test]
fn damage_is_one_line_that_names_the_file() {
    let folder = Folder::new();
    assert_eq!(load_failure(&folder), "features.json: No such file or directory");
    encoders(&folder).save(folder.0.path()).unwrap();
    let (json, keys) = (folder.path(FEATURES_FILE), folder.path(VOCABULARIES_FILE));
    let (text, bytes) = (fs::read_to_string(&json).unwrap(), fs::read(&keys).unwrap());
    let damaged = "vocabularies.parquet: is damaged, its checksum is not that in features.json";
    fs::write(&keys, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(load_failure(&folder), damaged);
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    fs::write(&keys, flipped).unwrap();
    assert_eq!(load_failure(&folder), damaged);
    fs::remove_file(&keys).unwrap();
    assert_eq!(load_failure(&folder), "vocabularies.parquet: No such file or directory");
    fs::write(&keys, bytes).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        fs::write(&json, text.replacen(from, to, 1)).unwrap();
        load_failure(&folder)
    };
    assert_eq!(
        with("\"format_version\": 2", "\"format_version\": 9"),
        "features.json: format_version = 9, this program reads 1 to 2"
    );
    assert_eq!(
        with("\"keys\": 3", "\"keys\": 4"),
        "features.json: what was fitted for feature `item` is damaged"
    );
    assert_eq!(
        with("\"std\": \"", "\"std\": \"-"),
        "features.json: what was fitted for feature `price` is damaged"
    );
    assert!(with("\"std\": \"", "\"std\": \"x").starts_with("features.json: `x"));
    assert!(
        with("\"buckets\": 5", "\"buckets\": 0").starts_with("features.json: feature `hash`: buckets = 0")
    );
    assert!(with("\"column\"", "\"colum\"").starts_with("features.json: unknown field `colum`"));
    fs::write(&json, &text[..text.len() / 2]).unwrap();
    assert!(load_failure(&folder).starts_with("features.json: EOF while parsing"));
}
