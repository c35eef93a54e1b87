//! The sections `[data]`, `[metrics]` and `features` of a run file, resolved.

use esmm_data::{
    ConversionWindow, CountSpec, CsvOptions, DenseTransform, FeatureKind, FeatureSpec, ListFormat, Outside,
    SourceSpec, SparseEncoding, Spelling, SplitSpec, TruthSpec,
};

use super::memory::bytes;
use super::refuse::refuse;
use super::run_file::{
    DataSection, Encode, FeatureSection, Instant, LabelSection, MetricSection, NegativeRateSetting,
    OutsidePolicy, SplitBy,
};
use super::train_config::ReadingConfig;
use crate::error::RunError;

/// Bins of a piecewise-linear encoding unless said.
const PLE_BINS: usize = 16;

pub(super) fn split(data: &DataSection) -> Result<SplitSpec, RunError> {
    let csv = CsvOptions { delimiter: data.delimiter, quote: data.quote };
    let lists = ListFormat { separator: data.list_separator, weight_separator: data.weight_separator };
    let spelling = Spelling {
        trim: data.trim,
        null: data.null.clone(),
        decimal: data.decimal,
        thousands: data.thousands,
        time_zone: data.time_zone.clone(),
        exact_keys: false,
    };
    let source = |paths: Vec<String>| SourceSpec {
        paths,
        csv,
        lists,
        spelling: spelling.clone(),
        groups: data.groups.clone(),
    };
    let given = |paths: Vec<String>| (!paths.is_empty()).then(|| source(paths));
    let (train, valid, test) = (data.train.to_vec(), data.valid.to_vec(), data.test.to_vec());
    let path = data.path.to_vec();
    match (train.is_empty(), path.is_empty()) {
        (true, true) => {
            Err(RunError::Config("[data] names no file: give `train`, or `path` with `split`".into()))
        }
        (false, false) => Err(RunError::Config("[data] has both `train` and `path`: one of them".into())),
        (false, true) if data.split.is_some() => {
            Err(RunError::Config("[data.split] goes with `path`, not with `train`".into()))
        }
        (false, true) => {
            Ok(SplitSpec::Files { train: source(train), valid: given(valid), test: given(test) })
        }
        (true, false) if !valid.is_empty() || !test.is_empty() => {
            Err(RunError::Config("[data] `valid` and `test` go with `train`, not with `path`".into()))
        }
        (true, false) => split_source(data, source(path)),
    }
}

pub(super) fn reading(data: &DataSection) -> Result<ReadingConfig, RunError> {
    if data.shuffle_rows == 0 {
        return refuse("data.shuffle_rows", 0, "it must be at least 1");
    }
    Ok(ReadingConfig {
        streaming: data.streaming,
        memory: bytes("data.memory", &data.memory)?,
        shuffle_rows: data.shuffle_rows,
        by_group: data.by_group,
    })
}

fn split_source(data: &DataSection, source: SourceSpec) -> Result<SplitSpec, RunError> {
    let Some(split) = &data.split else {
        return Ok(SplitSpec::Files { train: source, valid: None, test: None });
    };
    let (valid, test, seed) = (split.valid, split.test, split.seed);
    let column = |by: &str| match &split.column {
        Some(column) => Ok(column.clone()),
        None => Err(RunError::Config(format!("data.split.by = \"{by}\" needs `column`"))),
    };
    let moments = split.valid_from.is_some() || split.test_from.is_some();
    if moments && split.by != SplitBy::Time {
        return refuse(
            "data.split.by",
            format!("{:?}", split.by),
            "`valid_from` and `test_from` go with \"time\"",
        );
    }
    if moments && (valid > 0.0 || test > 0.0) {
        return refuse(
            "data.split.valid or test",
            "a share",
            "`valid_from` and `test_from` take its place: give one",
        );
    }
    match split.by {
        SplitBy::Time if moments => {
            let text = |moment: &Option<Instant>| moment.as_ref().map(Instant::to_string);
            let (valid_from, test_from) = (text(&split.valid_from), text(&split.test_from));
            Ok(SplitSpec::Date { source, column: column("time")?, valid_from, test_from })
        }
        SplitBy::Time => Ok(SplitSpec::Time { source, column: column("time")?, valid, test }),
        SplitBy::Hash => Ok(SplitSpec::Hash { source, column: column("hash")?, valid, test, seed }),
        SplitBy::Random if split.column.is_some() => refuse(
            "data.split.column",
            "given",
            "a split by \"random\" has no column (do you mean \"hash\"?)",
        ),
        SplitBy::Random => Ok(SplitSpec::Random { source, valid, test, seed }),
    }
}

pub(super) fn feature(section: &FeatureSection) -> Result<FeatureSpec, RunError> {
    let name = &section.name;
    let needs = |value: Option<usize>, key: &str| match value {
        Some(value) => Ok(value),
        None => {
            Err(RunError::Config(format!("feature `{name}`: encode = {:?} needs `{key}`", section.encode)))
        }
    };
    let allowed = |key: &str, is_given: bool, fits: bool| match is_given && !fits {
        true => Err(RunError::Config(format!(
            "feature `{name}`: `{key}` does not go with encode = {:?}",
            section.encode
        ))),
        false => Ok(()),
    };
    let encode = section.encode;
    let dense = encode.is_dense();
    allowed("min_count", section.min_count.is_some(), encode == Encode::Vocabulary)?;
    allowed("buckets", section.buckets.is_some(), matches!(encode, Encode::Hash | Encode::Quantile))?;
    allowed("bins", section.bins.is_some(), encode == Encode::Ple)?;
    allowed("num_embeddings", section.num_embeddings.is_some(), encode == Encode::Raw)?;
    allowed("missing", section.missing.is_some(), dense)?;
    allowed("pooling", section.pooling.is_some(), !dense)?;
    allowed("shares", section.shares.is_some(), !dense)?;
    allowed("weighted", section.weighted, section.pooling.is_some())?;
    allowed("weights_column", section.weights_column.is_some(), section.weighted)?;
    let sparse = |encoding| FeatureKind::Sparse {
        encoding,
        bag: section.pooling,
        shares: section.shares.clone(),
        weighted: section.weighted,
        weights_column: section.weights_column.clone(),
    };
    let real = |transform| FeatureKind::Dense { transform, missing: section.missing };
    let kind = match encode {
        Encode::Vocabulary => {
            sparse(SparseEncoding::Vocabulary { min_count: section.min_count.unwrap_or(1) })
        }
        Encode::Hash => sparse(SparseEncoding::Hash { buckets: needs(section.buckets, "buckets")? }),
        Encode::Quantile => sparse(SparseEncoding::Quantile { buckets: needs(section.buckets, "buckets")? }),
        Encode::Raw => {
            sparse(SparseEncoding::Raw { num_embeddings: needs(section.num_embeddings, "num_embeddings")? })
        }
        Encode::Dense => real(DenseTransform::None),
        Encode::Standardize => real(DenseTransform::Standardize),
        Encode::Log1p => real(DenseTransform::Log1p),
        Encode::Ple => real(DenseTransform::PiecewiseLinear { bins: section.bins.unwrap_or(PLE_BINS) }),
    };
    let column = section.column.clone().unwrap_or_else(|| name.clone());
    let outside = match section.outside {
        OutsidePolicy::Clip => Outside::Clip,
        OutsidePolicy::Missing => Outside::Missing,
        OutsidePolicy::Error => Outside::Error,
    };
    Ok(FeatureSpec { name: name.clone(), column, side: section.side, kind, outside })
}

pub(super) fn unknown_share(share: f64) -> Result<f64, RunError> {
    match (0.0..1.0).contains(&share) {
        true => Ok(share),
        false => refuse("data.unknown_share", share, "it must be 0 or more and less than 1"),
    }
}

/// What says how rows count; `by_time` is the column of a split that has one.
pub(super) fn counting(labels: &LabelSection, by_time: Option<&str>) -> Result<CountSpec, RunError> {
    let negative_rate = match &labels.negative_rate {
        Some(NegativeRateSetting::Column(column)) => Some(column.clone()),
        Some(NegativeRateSetting::Share(_)) | None => None,
    };
    let window = match &labels.conversion_window {
        None if labels.time.is_some() || labels.conversions_until.is_some() => {
            let message =
                "labels.time and labels.conversions_until go with labels.conversion_window: say that too";
            return Err(RunError::Config(message.into()));
        }
        None => None,
        Some(length) => {
            let Some(column) = labels.time.as_deref().or(by_time) else {
                let message =
                    "labels.conversion_window needs labels.time, the column with the time of each row";
                return Err(RunError::Config(message.into()));
            };
            Some(ConversionWindow {
                column: column.to_owned(),
                length: length.to_string(),
                until: labels.conversions_until.as_ref().map(Instant::to_string),
            })
        }
    };
    let spec = CountSpec { weight: labels.weight.clone(), negative_rate, window };
    spec.validate()?;
    Ok(spec)
}

pub(super) fn truth(metrics: &MetricSection) -> Option<TruthSpec> {
    let (ctr, cvr, ctcvr) = (metrics.true_ctr.clone(), metrics.true_cvr.clone(), metrics.true_ctcvr.clone());
    let given = ctr.is_some() || cvr.is_some() || ctcvr.is_some();
    given.then_some(TruthSpec { ctr, cvr, ctcvr })
}
