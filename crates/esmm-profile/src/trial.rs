//! A configuration tried on the rows at hand: every feature is fitted and encoded, labels are read.

use esmm_data::{DataError, EncoderFitter, FeatureKind, FeatureSpec};

use crate::sample::Sample;
use esmm_run::config::TrainConfig;

/// Columns that the reader refuses, and why.
///
/// # Errors
/// Labels that cannot be read.
pub(crate) fn run(config: &TrainConfig, sample: &Sample) -> Result<Vec<(String, String)>, DataError> {
    for chunk in &sample.chunks {
        config.labels.read(chunk)?;
    }
    let refused = config.features.iter().filter_map(|spec| {
        let error = encode(spec.clone(), sample).err()?;
        Some((spec.column.clone(), format!("is refused by the reader: {error}")))
    });
    Ok(refused.collect())
}

fn encode(mut spec: FeatureSpec, sample: &Sample) -> Result<(), DataError> {
    if let FeatureKind::Sparse { shares, .. } = &mut spec.kind {
        *shares = None; // Alone it has a table of its own.
    }
    let mut fitter = EncoderFitter::new(vec![spec])?;
    for chunk in &sample.chunks {
        fitter.observe(chunk, &vec![true; chunk.rows()])?;
    }
    let encoders = fitter.finish()?.strict();
    sample.chunks.iter().try_for_each(|chunk| encoders.encode(chunk).map(|_| ()))
}
