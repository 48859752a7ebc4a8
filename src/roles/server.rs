//! One HTTP server for all that a process answers. It listens from the start: until the services run, only the routes of
//! `ops` are there and the others are answered with 503.

use crate::ops::{self, Ops};
use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use millrace_tenancy::http::ApiError;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// What a client is told to wait while the services start.
const START_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("listening on {address}: choose another with --listen HOST:PORT")]
    Bind { address: String, source: io::Error },
    #[error("serving HTTP")]
    Serve(#[source] io::Error),
    #[error("the HTTP server died")]
    Task(#[from] JoinError),
    #[error("the HTTP server ended though nobody asked it to")]
    Ended,
}

/// The services' routes, once they run.
type Services = Arc<OnceLock<Router>>;

pub struct Server {
    address: SocketAddr,
    services: Services,
    stop: CancellationToken,
    task: JoinSet<io::Result<()>>,
}

/// Takes the address, before anything else is started.
pub async fn bind(address: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address: address.to_owned(), source })
}

impl Server {
    pub fn start(listener: TcpListener, ops: Arc<Ops>) -> Result<Self, Error> {
        Self::with_router(listener, ops::router(ops))
    }

    /// `first` has the routes that are there from the start.
    fn with_router(listener: TcpListener, first: Router) -> Result<Self, Error> {
        let address = listener.local_addr().map_err(Error::Serve)?;
        let services = Services::default();
        let later = Router::new().fallback(serve).with_state(Arc::clone(&services));
        let app = first.merge(later).layer(any_origin());
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let stopped = stop.clone().cancelled_owned();
        let listener = listener.tap_io(send_at_once);
        task.spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stopped).await });
        Ok(Self { address, services, stop, task })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with `router` from now on; only the first counts.
    pub fn open(&self, router: Router) {
        self.services.get_or_init(|| router);
    }

    /// Waits for an end that nobody asked for.
    pub async fn ended(&mut self) -> Error {
        match self.task.join_next().await {
            Some(Ok(Err(error))) => Error::Serve(error),
            Some(Err(error)) => Error::Task(error),
            Some(Ok(Ok(()))) | None => Error::Ended,
        }
    }

    /// Takes no more connections and waits for the requests in flight.
    pub async fn stop(mut self) {
        self.stop.cancel();
        match self.task.join_next().await {
            Some(Err(error)) => tracing::error!(%error, "the HTTP server died"),
            _ => tracing::info!("no request is in flight any more"),
        }
    }
}

async fn serve(State(services): State<Services>, request: Request) -> Response {
    let Some(router) = services.get() else {
        return ApiError::unavailable("Millrace is starting", START_RETRY).into_response();
    };
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Browsers of any origin may ask; what they may see, their key decides.
fn any_origin() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(Any)
        // `*` does not cover `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
}

/// Small answers and live events don't wait for more to send.
fn send_at_once(stream: &mut TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
}

#[cfg(test)]
mod tests;
