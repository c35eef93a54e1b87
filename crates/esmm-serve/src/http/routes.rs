//! The table of routes.

use std::sync::Arc;

use axum::routing::{MethodRouter, get, post};

use super::{model, openapi, rank};
use crate::oip;
use crate::service::Service;

/// A route: one method of one path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
    /// For people.
    pub(crate) summary: &'static str,
    /// Whether it answers without a token.
    pub(crate) open: bool,
    action: Action,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Page,
    Live,
    Ready,
    Metrics,
    OpenApi,
    Rank,
    Model,
    Reload,
    OipServer,
    OipModel,
    OipModelReady,
    OipInfer,
}

const fn open(path: &'static str, summary: &'static str, action: Action) -> Route {
    Route { path, method: "get", summary, open: true, action }
}

const fn get_(path: &'static str, summary: &'static str, action: Action) -> Route {
    Route { path, method: "get", summary, open: false, action }
}

const fn post_(path: &'static str, summary: &'static str, action: Action) -> Route {
    Route { path, method: "post", summary, open: false, action }
}

/// All routes but those of gRPC.
pub(crate) const ALL: &[Route] = &[
    open("/", "A page to look at the model and to rank for one user", Action::Page),
    open("/health/live", "Whether the process answers", Action::Live),
    open("/health/ready", "Whether requests are welcome", Action::Ready),
    open("/v2/health/live", "Open Inference Protocol: whether the process answers", Action::Live),
    open("/v2/health/ready", "Open Inference Protocol: whether requests are welcome", Action::Ready),
    get_("/metrics", "Counters for Prometheus", Action::Metrics),
    get_("/openapi.json", "This description", Action::OpenApi),
    post_("/v1/rank", "Ranks candidates for a user", Action::Rank),
    get_("/v1/model", "The model: features, metrics, version", Action::Model),
    post_("/v1/reload", "Loads the run directory again and exchanges the models", Action::Reload),
    get_("/v2", "Open Inference Protocol: the server", Action::OipServer),
    get_("/v2/models/{model}", "Open Inference Protocol: inputs and outputs of the model", Action::OipModel),
    get_("/v2/models/{model}/versions/{version}", "The same of a version", Action::OipModel),
    get_(
        "/v2/models/{model}/ready",
        "Open Inference Protocol: whether the model answers",
        Action::OipModelReady,
    ),
    get_("/v2/models/{model}/versions/{version}/ready", "The same of a version", Action::OipModelReady),
    post_(
        "/v2/models/{model}/infer",
        "Open Inference Protocol: scores of candidates, in their order",
        Action::OipInfer,
    ),
    post_("/v2/models/{model}/versions/{version}/infer", "The same of a version", Action::OipInfer),
];

impl Route {
    pub(crate) fn handler(self) -> MethodRouter<Arc<Service>> {
        match self.action {
            Action::Page => get(model::page),
            Action::Live => get(model::live),
            Action::Ready => get(model::ready),
            Action::Metrics => get(model::metrics),
            Action::OpenApi => get(openapi::document),
            Action::Rank => post(rank::rank),
            Action::Model => get(model::model),
            Action::Reload => post(model::reload),
            Action::OipServer => get(oip::rest::server),
            Action::OipModel => get(oip::rest::model),
            Action::OipModelReady => get(oip::rest::model_ready),
            Action::OipInfer => post(oip::rest::infer),
        }
    }
}
