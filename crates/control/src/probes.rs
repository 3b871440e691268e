//! What machines ask: whether the process lives, whether it is ready, and its metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use gateway::metrics::Metrics;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;

use crate::api;
use crate::http_api::Shared;
use crate::management::problem::Refused;

type Level = Gauge<u64, AtomicU64>;

/// The levels that are measured when somebody asks.
pub(crate) struct Gauges {
    open_tasks: Level,
    log_size: Level,
    owed: Level,
}

impl Gauges {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let gauges = Self {
            open_tasks: Level::default(),
            log_size: Level::default(),
            owed: Level::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "open_tasks",
                "Tasks that are open",
                gauges.open_tasks.clone(),
            );
            registry.register(
                "log_records",
                "Records in the audit log",
                gauges.log_size.clone(),
            );
            registry.register(
                "restrictions_owed",
                "Restrictions that hold but are not written to the store or the log yet",
                gauges.owed.clone(),
            );
        });
        gauges
    }
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// The process answers: that is all.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let problems = shared.engine.problems().await;
    let ready = problems.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(api::Ready { ready, problems })).into_response()
}

/// The metrics name servers and count what agents do: beyond loopback they need the operator's
/// token.
async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if !shared.loopback && !shared.operator.is_in(&headers) {
        return Refused::unauthenticated("metrics need the operator's token here").into_response();
    }
    let engine = &shared.engine;
    let level = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    shared
        .gauges
        .open_tasks
        .set(level(engine.open_tasks(Timestamp::now())));
    shared.gauges.log_size.set(engine.live().audit().size());
    shared.gauges.owed.set(level(engine.owed()));
    engine.watch().measure();
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], engine.pipeline().metrics().text()).into_response()
}
