//! Raw files in, Parquet out: against a slow and obvious join, and every bad input with its message.

mod bad;
mod generated;
mod join;
mod output;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Int32Type, Int64Type, UInt8Type, UInt32Type};
use tempfile::TempDir;

use esmm_data::SourceSpec;

use super::memory::Memory;
use super::prepare::prepare_within;
use super::{AliCcpError, GenerateConfig, PrepareConfig, PrepareReport, generate};

/// Memory in which everything that can go to disk does.
const TINY: Memory = Memory { sorter: 2000, late: 100, ahead: 2 };

/// A folder with `raw` and room for outputs.
struct Workplace(TempDir);

/// A joined impression. Fields that are missing are not in the map.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    sample_id: i64,
    labels: [u8; 2],
    fields: BTreeMap<String, Vec<(i32, f32)>>,
}

impl Workplace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("raw")).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// With generated files, among them many anomalies and conversions.
    fn generated(rows: u64, seed: u64, gzip: bool) -> Self {
        let place = Self::new();
        let config = GenerateConfig {
            click_rate: 0.3,
            conversion_rate: 0.1,
            orphan_rate: 0.02,
            anomalies: 0.5,
            gzip,
            threads: 2,
            ..GenerateConfig::new(place.path("raw"), rows, seed)
        };
        generate(&config).unwrap();
        place
    }

    /// With raw training files of these lines; `|`, `:` and `=` stand for the separators of features.
    fn written(skeleton: &str, common: &str) -> Self {
        let place = Self::new();
        place.write("sample_skeleton_train.csv", skeleton);
        place.write("common_features_train.csv", common);
        place
    }

    fn write(&self, name: &str, text: &str) {
        let text = text.replace('|', "\x01").replace(':', "\x02").replace('=', "\x03");
        fs::write(self.path("raw").join(name), text).unwrap();
    }

    fn config(&self, out: &str) -> PrepareConfig {
        PrepareConfig { threads: 2, ..PrepareConfig::new(self.path("raw"), self.path(out)) }
    }

    fn prepare(&self, out: &str) -> PrepareReport {
        prepare_within(&self.config(out), TINY, &mut |_| {}).unwrap()
    }

    /// The message of a preparation that fails, without the folder; nothing is left of it.
    fn fails(&self, config: &PrepareConfig) -> String {
        let error = prepare_within(config, TINY, &mut |_| {}).unwrap_err();
        assert_eq!(self.entries(""), ["raw"], "left behind after: {error}");
        self.message(&error)
    }

    fn message(&self, error: &AliCcpError) -> String {
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        message.replace(&format!("{}/", self.0.path().display()), "").replace("raw/", "")
    }

    fn entries(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The impressions of a split with the columns of their groups, as training reads them.
    fn rows(&self, out: &str, split: &str) -> Vec<Row> {
        let path = self.path(out).join(split).join("impressions.parquet");
        let source = SourceSpec {
            groups: Some("groups.parquet".to_owned()),
            ..SourceSpec::new([path.to_str().unwrap()])
        };
        let columns = source.column_names().unwrap();
        let mut rows = Vec::new();
        for chunk in source.open(&columns).unwrap() {
            let chunk = chunk.unwrap();
            let first = rows.len();
            let ids = chunk.column("sample_id").unwrap().as_primitive::<Int64Type>();
            let labels =
                ["click", "conversion"].map(|name| chunk.column(name).unwrap().as_primitive::<UInt8Type>());
            rows.extend((0..chunk.rows()).map(|row| Row {
                sample_id: ids.value(row),
                labels: labels.map(|column| column.value(row)),
                fields: BTreeMap::new(),
            }));
            for code in columns.iter().filter(|name| name.starts_with(|c: char| c.is_ascii_digit())) {
                if code.ends_with("_weights") {
                    continue;
                }
                let column = chunk.column(code).unwrap();
                let weights = chunk.column(&format!("{code}_weights"));
                for row in 0..chunk.rows() {
                    let values: Vec<(i32, f32)> = match column.as_list_opt::<i32>() {
                        None if column.is_null(row) => Vec::new(),
                        None => vec![(column.as_primitive::<Int32Type>().value(row), 1.0)],
                        Some(lists) => {
                            let weights = weights.as_ref().unwrap().as_list::<i32>().value(row);
                            let ids = lists.value(row);
                            let weights = weights.as_primitive::<Float32Type>();
                            let ids = ids.as_primitive::<Int32Type>();
                            assert!(column.is_valid(row) && ids.len() == weights.len());
                            ids.values().iter().copied().zip(weights.values().iter().copied()).collect()
                        }
                    };
                    if !values.is_empty() {
                        rows[first + row].fields.insert(code.clone(), values);
                    }
                }
            }
        }
        rows
    }

    /// The numbers of the groups of a split's impressions.
    fn groups(&self, out: &str, split: &str) -> Vec<u32> {
        let path = self.path(out).join(split).join("impressions.parquet");
        let chunks = SourceSpec::new([path.to_str().unwrap()]).open(&["group".to_owned()]).unwrap();
        chunks
            .flat_map(|chunk| {
                chunk.unwrap().column("group").unwrap().as_primitive::<UInt32Type>().values().to_vec()
            })
            .collect()
    }
}

/// The text of a raw file, or of all whose names begin so, in order.
fn text(raw: &Path, stem: &str) -> String {
    let mut paths: Vec<PathBuf> = fs::read_dir(raw).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(stem));
    paths.sort();
    let mut text = String::new();
    for path in paths {
        let bytes = fs::read(&path).unwrap();
        match path.extension().is_some_and(|extension| extension == "gz") {
            true => drop(flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap()),
            false => text.push_str(std::str::from_utf8(&bytes).unwrap()),
        }
    }
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
