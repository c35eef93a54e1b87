//! Routes and what surrounds each request.

mod model;
mod observe;
pub(crate) mod openapi;
mod rank;
pub(crate) mod routes;
pub(crate) mod sent;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;

use crate::failure::Failure;
use crate::oip;
use crate::service::Service;

/// The service as an axum router: all routes, with authentication, limits, request ids and counters around them.
pub fn router(service: Arc<Service>) -> Router {
    let mut router = Router::new();
    for route in routes::ALL {
        router = router.route(route.path, route.handler());
    }
    router
        .route_service(oip::grpc::PATH, oip::grpc::server(service.clone()))
        .fallback(|| async {
            Failure::new(StatusCode::NOT_FOUND, "there is no such route: /openapi.json lists them")
        })
        .method_not_allowed_fallback(|| async {
            Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "the route is there, but not for this method: see /openapi.json",
            )
        })
        .layer(DefaultBodyLimit::max(service.limits.body))
        .layer(from_fn_with_state(service.clone(), observe::observe))
        .with_state(service)
}
