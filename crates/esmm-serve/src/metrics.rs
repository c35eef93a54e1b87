//! What the service counts, for Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use esmm_data::FeatureCounts;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::model::Loaded;

/// Upper ends of the latency buckets, in seconds.
const LATENCIES: [f64; 15] =
    [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0];
/// Upper ends of the buckets of candidates.
const CANDIDATES: [f64; 10] = [1.0, 10.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeatureLabels {
    feature: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// All counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    latency: Family<RouteLabels, Histogram, fn() -> Histogram>,
    candidates: Histogram,
    values: Family<FeatureLabels, Counter>,
    missing: Family<FeatureLabels, Counter>,
    unknown: Family<FeatureLabels, Counter>,
    outside: Family<FeatureLabels, Counter>,
    unknown_items: Counter,
    refused: Family<ReasonLabels, Counter>,
    reloads: Family<ResultLabels, Counter>,
    in_flight: Gauge,
    connections: Gauge,
    model_bytes: Gauge<u64, AtomicU64>,
    catalogue_items: Gauge<u64, AtomicU64>,
    loaded_at: Gauge<u64, AtomicU64>,
    version: std::sync::Mutex<(String, String)>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("esmm");
        let new: fn() -> Histogram = || Histogram::new(LATENCIES);
        let metrics = Self {
            latency: Family::new_with_constructor(new),
            candidates: Histogram::new(CANDIDATES),
            values: Family::default(),
            missing: Family::default(),
            unknown: Family::default(),
            outside: Family::default(),
            unknown_items: Counter::default(),
            refused: Family::default(),
            reloads: Family::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            model_bytes: Gauge::default(),
            catalogue_items: Gauge::default(),
            loaded_at: Gauge::default(),
            version: std::sync::Mutex::default(),
            registry: Registry::default(),
        };
        registry.register(
            "request_seconds",
            "From a request's header to its answer",
            metrics.latency.clone(),
        );
        registry.register("candidates", "Candidates of a body", metrics.candidates.clone());
        registry.register("values", "Values of features, of a list its items", metrics.values.clone());
        registry.register("missing_values", "Values that are missing", metrics.missing.clone());
        registry.register(
            "unknown_values",
            "Values that are there, but that the training has not seen",
            metrics.unknown.clone(),
        );
        registry.register(
            "outside_values",
            "Values that a feature does not take: its outside says what stood in for them",
            metrics.outside.clone(),
        );
        registry.register(
            "unknown_items",
            "Items that are not in the catalogue",
            metrics.unknown_items.clone(),
        );
        registry.register("refused", "Requests without an answer", metrics.refused.clone());
        registry.register(
            "reloads",
            "Models that were loaded, and attempts that failed",
            metrics.reloads.clone(),
        );
        registry.register("requests_in_flight", "Requests that are computed now", metrics.in_flight.clone());
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("model_bytes", "Weights and catalogue in memory", metrics.model_bytes.clone());
        registry.register("catalogue_items", "Items of the catalogue", metrics.catalogue_items.clone());
        registry.register(
            "model_loaded_timestamp_seconds",
            "When the model was loaded",
            metrics.loaded_at.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        let labels = RouteLabels { route: route.to_owned(), status };
        self.latency.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(crate) fn ranked(&self, candidates: usize, unknown_items: usize) {
        self.candidates.observe(candidates as f64);
        self.unknown_items.inc_by(unknown_items as u64);
    }

    pub(crate) fn looked_up(&self, counts: &[FeatureCounts]) {
        for feature in counts {
            let labels = FeatureLabels { feature: feature.name.clone() };
            let counters = [
                (&self.values, feature.values),
                (&self.missing, feature.missing),
                (&self.unknown, feature.unknown),
                (&self.outside, feature.outside),
            ];
            for (counter, count) in counters {
                counter.get_or_create(&labels).inc_by(count);
            }
        }
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(crate) fn reloaded(&self, model: Result<&Loaded, ()>) {
        let result = if model.is_ok() { "loaded" } else { "failed" };
        self.reloads.get_or_create(&ResultLabels { result }).inc();
        if let Ok(model) = model {
            self.model_bytes.set(model.bytes);
            self.catalogue_items.set(model.catalogue.as_ref().map_or(0, |listed| listed.items.len()) as u64);
            let at = model.loaded_at.duration_since(std::time::UNIX_EPOCH);
            self.loaded_at.set(at.map_or(0, |at| at.as_secs()));
            let mut version = self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *version = (model.name.clone(), model.version.clone());
        }
    }

    /// One more request under way, until the guard is dropped.
    pub(crate) fn under_way(&self) -> Counted {
        Counted::new(&self.in_flight)
    }

    /// One more connection, until the guard is dropped.
    pub(crate) fn connected(&self) -> Counted {
        Counted::new(&self.connections)
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode_registry(&mut text, &self.registry);
        let mut model = Registry::with_prefix("esmm");
        let (name, version) = self.version.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        model.register(
            "model",
            "The model that answers",
            Info::new(vec![("name", name), ("version", version)]),
        );
        let _ = text::encode_registry(&mut text, &model);
        text.push_str("# EOF\n");
        text
    }
}

/// One of those that a gauge counts.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
