//! The relay: accepts connections on the socket and serves each in a task of its own.

mod client;
mod end;
mod handshake;
mod outgoing;

use crate::hub::Hub;
use client::Client;
use std::{sync::Arc, time::Duration};
use tokio::net::{UnixListener, UnixStream};

/// Connections that haven't said who they are, beyond the limit of connections, that are answered at all.
const STRANGERS_MAX: usize = 50;
/// After a failure to accept, for example for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the store closes.
pub async fn run(hub: Arc<Hub>, listener: UnixListener) {
    loop {
        let accepted = tokio::select! {
            () = hub.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if hub.clients.len() < hub.settings.limits.connections + STRANGERS_MAX => {
                hub.clients.spawn(connection(Arc::clone(&hub), stream));
            }
            Ok(_) => tracing::warn!("far too many connections: one was closed unanswered"),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(hub: Arc<Hub>, stream: UnixStream) {
    let limit = hub.settings.times.greeting + hub.settings.times.waiting;
    match tokio::time::timeout(limit, handshake::greet(&hub, stream)).await {
        Ok(Ok(Some(greeted))) => Client::new(hub, greeted).serve().await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended before it began"),
        Err(_) => tracing::debug!("a connection said nothing for too long"),
    }
}
