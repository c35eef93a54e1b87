//! Small models, a batch for them, and their logits.

use esmm_core::{
    BatchInput, DropoutKey, Esmm, EsmmBackend, EsmmConfig, Feature, FeatureBatch, FeatureSchema, Side,
    SparseInput, StateDict,
};

use super::{Plain, values};

pub(crate) const ROWS: usize = 40;

pub(crate) fn config(features: Vec<Feature>) -> EsmmConfig {
    let mut config = EsmmConfig::new(FeatureSchema::new(features).unwrap());
    config.embedding_dim = 3;
    config.embedding_init_std = 1.0;
    config.towers.hidden = vec![5, 4];
    config.towers.dropout = vec![0.0; 2];
    config
}

pub(crate) fn user_price_item() -> Vec<Feature> {
    vec![
        Feature::sparse("user", Side::User, 7),
        Feature::dense("price", Side::Item),
        Feature::sparse("item", Side::Item, 4),
    ]
}

/// Ids and values by a closed form, a column for each feature.
pub(crate) fn batch<B: EsmmBackend>(schema: &FeatureSchema) -> FeatureBatch<B> {
    let ids: Vec<Vec<u32>> = schema
        .sparse()
        .map(|feature| (0..ROWS).map(|row| (row * row % feature.num_embeddings) as u32).collect())
        .collect();
    let dense: Vec<Vec<f32>> = schema.dense().enumerate().map(|(j, _)| price(j)).collect();
    let sparse: Vec<_> = ids.iter().map(|ids| SparseInput::Single(ids)).collect();
    let dense: Vec<_> = dense.iter().map(Vec::as_slice).collect();
    let input = BatchInput { rows: ROWS, sparse: &sparse, dense: &dense, groups: None };
    FeatureBatch::new(schema, input, &Default::default()).unwrap()
}

pub(crate) fn price(feature: usize) -> Vec<f32> {
    (0..ROWS).map(|row| (row + 3 * feature) as f32 / ROWS as f32 - 0.5).collect()
}

pub(crate) fn key() -> DropoutKey {
    DropoutKey { seed: 1, step: 0 }
}

pub(crate) fn logits<B: EsmmBackend>(model: &Esmm<B>, config: &EsmmConfig) -> Vec<f64> {
    values(model.forward(&batch(&config.schema)).conditional)
}

/// Through a file and back into a model of another seed.
pub(crate) fn assert_round_trip(config: &EsmmConfig) {
    let device = Default::default();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let model = config.init::<Plain>(&device).unwrap();
    let dict = model.state_dict();
    dict.write_safetensors(&path).unwrap();
    let read = StateDict::read(&path).unwrap();
    let bytes = |dict: &StateDict| -> Vec<_> {
        let entries = dict.entries.iter();
        entries.map(|(name, data)| (name.clone(), data.shape.clone(), data.as_bytes().to_vec())).collect()
    };
    assert_eq!(bytes(&read), bytes(&dict));
    let other = EsmmConfig { seed: config.seed + 1, ..config.clone() };
    assert_ne!(logits(&other.init::<Plain>(&device).unwrap(), config), logits(&model, config));
    let loaded = other.load::<Plain>(&path, &device).unwrap();
    assert_eq!(logits(&loaded, config), logits(&model, config));
}
