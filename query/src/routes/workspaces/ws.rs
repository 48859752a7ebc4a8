//! `GET /api/v1/workspaces/{workspace_id}/ws?format=&types=&service_id=&api_key=`: the live feed over a WebSocket. Only
//! what came after the connect; by default each record bare, with `format=v2` typed frames.

mod socket;

use crate::{
    feed::{Kind, Options, Parameters},
    meters::Meters,
    routes::{Live, parameters, readable::ReadableSocket},
};
use axum::{
    extract::{
        Query, State, WebSocketUpgrade, rejection::QueryRejection, ws::rejection::WebSocketUpgradeRejection,
    },
    response::Response,
};
use millrace_tenancy::http::ApiError;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Clients have nothing to say: what they send may be small.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How long a connect waits, after a start, for the log to answer.
const LOG_LIMIT: Duration = Duration::from_millis(2_500);
const READ_BUFFER_BYTES: usize = 4 * 1024;
const WRITE_BUFFER_BYTES: usize = 32 * 1024;

pub async fn connect(
    readable: ReadableSocket,
    query: Result<Query<Parameters>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    State(live): State<Arc<Live>>,
    State(meters): State<Meters>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let options =
        Options::try_from(parameters(query)?).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let followed = async { tokio::join!(live.metrics.followed(), live.aggregates.followed()) };
    timeout(LOG_LIMIT, followed).await.map_err(|_| log_away())?;
    let session = session(readable, options, &live, &meters)?;
    let tracked = live.tracker.token();
    Ok(upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .on_upgrade(async move |socket| {
            socket::run(socket, session).await;
            drop(tracked);
        }))
}

/// Subscribes before the client is told that it is connected, so that it misses nothing from then on.
fn session(
    readable: ReadableSocket,
    options: Options,
    live: &Live,
    meters: &Meters,
) -> Result<socket::Session, ApiError> {
    let permit = Arc::clone(&live.places).try_acquire_owned().map_err(|_| full())?;
    let subscription = live.hub.subscribe(readable.workspace, options, |kind| match kind {
        Kind::Metric => live.metrics.floors(),
        Kind::Aggregate => live.aggregates.floors(),
    });
    let place = socket::Place::new(permit, meters.sockets.clone());
    Ok(socket::Session { subscription, readable, shutdown: live.shutdown.clone(), _place: place })
}

fn log_away() -> ApiError {
    ApiError::unavailable("The log is not available", Duration::from_secs(1))
}

fn full() -> ApiError {
    ApiError::unavailable("Too many open WebSockets", Duration::from_secs(5))
}
