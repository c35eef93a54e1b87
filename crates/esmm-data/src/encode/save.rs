//! Fitted encoders in files: `features.json` for people, `vocabularies.parquet` for keys.

use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{Read, Write};
use std::path::Path;

use esmm_files::NewFile;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

use super::dense::DenseEncoder;
use super::encoder::{Fitted, FittedEncoders};
use super::feature::{DenseTransform, FeatureKind, FeatureSpec, SparseEncoding, owners};
use super::pieces::Pieces;
use super::quantile::Quantiles;
use super::table::TableEncoder;
use super::unknown_row::UnknownRow;
use super::vocabulary::Vocabulary;
use super::vocabulary_file;
use crate::error::DataError;

/// The file with features and fitted numbers.
pub const FEATURES_FILE: &str = "features.json";
/// The file with the keys of all vocabularies: columns feature, row, key, count.
pub const VOCABULARIES_FILE: &str = "vocabularies.parquet";
/// Version of both files. The first one had one row for missing and unknown values, and knew no rule for values outside.
const FORMAT_VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedEncoders {
    format_version: u32,
    /// xxHash64 of the other file, in hexadecimal digits.
    vocabularies_xxh64: String,
    /// Absent in version 1: one row for both.
    #[serde(default)]
    unknown_row: UnknownRow,
    features: Vec<SavedFeature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFeature {
    spec: FeatureSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fitted: Option<SavedFit>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum SavedFit {
    /// Keys of a vocabulary.
    Keys(usize),
    /// Edges of quantile buckets, or of the bins of a piecewise-linear encoding.
    Edges(Vec<Exact>),
    /// Of a standardized feature.
    Moments { mean: Exact, std: Exact },
}

/// A number as its shortest decimal text, because JSON readers may round the last digit of a bare number.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Exact(f64);

impl From<Exact> for String {
    fn from(number: Exact) -> Self {
        number.0.to_string()
    }
}

impl TryFrom<String> for Exact {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Self(number)),
            _ => Err(format!("`{text}` is not a finite number")),
        }
    }
}

impl FittedEncoders {
    /// Writes both files into a folder. Each appears whole or not at all.
    ///
    /// # Errors
    /// A folder that is not there, a disk that refuses to write.
    pub fn save(&self, dir: &Path) -> Result<(), DataError> {
        let path = dir.join(VOCABULARIES_FILE);
        let vocabularies = self.specs().iter().zip(self.fitted()).filter_map(|(spec, fitted)| match fitted {
            Fitted::Table(TableEncoder::Vocabulary(vocabulary)) => Some((spec.name.as_str(), vocabulary)),
            _ => None,
        });
        replace(&path, |file| vocabulary_file::write(file.file(), &path, vocabularies))?;
        let features = self.specs().iter().zip(self.fitted());
        let saved = SavedEncoders {
            format_version: FORMAT_VERSION,
            vocabularies_xxh64: checksum(&path)?,
            unknown_row: self.unknown_row(),
            features: features
                .map(|(spec, fitted)| SavedFeature { spec: spec.clone(), fitted: fit_of(fitted) })
                .collect(),
        };
        let path = dir.join(FEATURES_FILE);
        let mut text =
            serde_json::to_string_pretty(&saved).map_err(|error| DataError::caused(&path, error))?;
        text.push('\n');
        replace(&path, |file| file.write_all(text.as_bytes()).map_err(|error| DataError::io(&path, &error)))
    }

    /// Reads what [`FittedEncoders::save`] wrote.
    ///
    /// # Errors
    /// A file that is missing, damaged, of another version or of another saving.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join(FEATURES_FILE);
        let text = fs::read_to_string(&path).map_err(|error| DataError::io(&path, &error))?;
        check_version(&path, &text)?;
        let saved: SavedEncoders =
            serde_json::from_str(&text).map_err(|error| DataError::caused(&path, error))?;
        let keys = dir.join(VOCABULARIES_FILE);
        if checksum(&keys)? != saved.vocabularies_xxh64 {
            return Err(DataError::file(
                &keys,
                format!("is damaged, its checksum is not that in {FEATURES_FILE}"),
            ));
        }
        let (specs, fits): (Vec<_>, Vec<_>) =
            saved.features.into_iter().map(|feature| (feature.spec, feature.fitted)).unzip();
        let owners = owners(&specs).map_err(|error| DataError::caused(&path, error))?;
        let mut vocabularies = vocabulary_file::read(&keys, saved.unknown_row)?;
        let features = specs.iter().zip(fits).zip(owners).enumerate();
        let fitted = features.map(|(place, ((spec, fit), owner))| match owner == place {
            false => Ok(Fitted::Shares(owner)),
            true => restore(spec, fit, vocabularies.remove(&spec.name), saved.unknown_row).ok_or_else(|| {
                DataError::file(&path, format!("what was fitted for feature `{}` is damaged", spec.name))
            }),
        });
        let fitted = fitted.collect::<Result<_, _>>()?;
        Self::new(specs, fitted)
    }
}

fn check_version(path: &Path, text: &str) -> Result<(), DataError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let version: Version = serde_json::from_str(text).map_err(|error| DataError::caused(path, error))?;
    match version.format_version {
        1..=FORMAT_VERSION => Ok(()),
        other => Err(DataError::file(
            path,
            format!("format_version = {other}, this program reads 1 to {FORMAT_VERSION}"),
        )),
    }
}

fn fit_of(fitted: &Fitted) -> Option<SavedFit> {
    match fitted {
        Fitted::Table(TableEncoder::Vocabulary(vocabulary)) => {
            Some(SavedFit::Keys(vocabulary.entries().len()))
        }
        Fitted::Table(TableEncoder::Quantile(quantiles)) => {
            Some(SavedFit::Edges(quantiles.edges().iter().copied().map(Exact).collect()))
        }
        Fitted::Pieces(_, pieces) => {
            Some(SavedFit::Edges(pieces.edges().iter().copied().map(Exact).collect()))
        }
        Fitted::Dense(DenseEncoder { transform: DenseTransform::Standardize, mean, std, .. }) => {
            Some(SavedFit::Moments { mean: Exact(*mean), std: Exact(*std) })
        }
        _ => None,
    }
}

fn restore(
    spec: &FeatureSpec,
    fit: Option<SavedFit>,
    vocabulary: Option<Vocabulary>,
    unknown_row: UnknownRow,
) -> Option<Fitted> {
    let table = match (&spec.kind, fit) {
        (
            FeatureKind::Dense { transform: DenseTransform::PiecewiseLinear { bins }, missing },
            Some(SavedFit::Edges(edges)),
        ) => {
            let transform = DenseTransform::PiecewiseLinear { bins: *bins };
            let encoder = DenseEncoder { transform, missing: *missing, mean: 0.0, std: 0.0 };
            let edges = edges.into_iter().map(|edge| edge.0).collect();
            return Some(Fitted::Pieces(encoder, Pieces::from_edges(edges, *bins)?));
        }
        (FeatureKind::Dense { transform, missing }, fit) => {
            let (mean, std) = match (transform, fit) {
                (DenseTransform::Standardize, Some(SavedFit::Moments { mean, std })) if std.0 >= 0.0 => {
                    (mean.0, std.0)
                }
                (DenseTransform::None | DenseTransform::Log1p, None) => (0.0, 0.0),
                _ => return None,
            };
            return Some(Fitted::Dense(DenseEncoder { transform: *transform, missing: *missing, mean, std }));
        }
        (
            FeatureKind::Sparse { encoding: SparseEncoding::Vocabulary { .. }, .. },
            Some(SavedFit::Keys(count)),
        ) => {
            let vocabulary = vocabulary.unwrap_or_else(|| Vocabulary::empty(unknown_row));
            (vocabulary.entries().len() == count).then_some(TableEncoder::Vocabulary(vocabulary))
        }
        (
            FeatureKind::Sparse { encoding: SparseEncoding::Quantile { .. }, .. },
            Some(SavedFit::Edges(edges)),
        ) => {
            Quantiles::from_edges(edges.into_iter().map(|edge| edge.0).collect()).map(TableEncoder::Quantile)
        }
        (FeatureKind::Sparse { encoding, .. }, None) => TableEncoder::unfitted(*encoding),
        _ => None,
    };
    table.map(Fitted::Table)
}

fn checksum(path: &Path) -> Result<String, DataError> {
    let io = |error: std::io::Error| DataError::io(path, &error);
    let mut file = File::open(path).map_err(io)?;
    let mut hash = XxHash64::with_seed(0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(format!("{:016x}", hash.finish())),
            count => hash.write(&buffer[..count]),
        }
    }
}

/// Writes a file whole or not at all.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut NewFile) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let io = |error: std::io::Error| DataError::io(path, &error);
    let mut file = NewFile::beside(path).map_err(io)?;
    write(&mut file)?;
    file.finish().map_err(io)
}
