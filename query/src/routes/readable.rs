//! The workspace of a URL, once it is sure that the request's key may read it.

use super::while_waiting;
use axum::{
    extract::{FromRef, FromRequestParts, Path},
    http::request::Parts,
};
use millrace_schemas::WorkspaceId;
use millrace_tenancy::{
    Access, Directory,
    http::{ApiError, ApiKey, SocketApiKey, readable},
};
use serde::Deserialize;

/// 401 without a valid key, 400 for an id that is none, 403 if the key does not open it, 404 if it does not exist.
pub struct Readable(pub WorkspaceId);

/// The same for a socket, whose key may come in the URL. It is kept, to be asked again while the socket is open.
pub struct ReadableSocket {
    pub workspace: WorkspaceId,
    key: SocketApiKey,
    directory: Directory,
}

#[derive(Deserialize)]
struct WorkspacePath {
    workspace_id: String,
}

impl<S> FromRequestParts<S> for Readable
where
    S: Send + Sync,
    Directory: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let directory = Directory::from_ref(state);
        let key = ApiKey::from_request_parts(parts, state).await?;
        while_waiting(async {
            let access = key.access(&directory).await?;
            workspace(parts, state, &access).await.map(Self)
        })
        .await
    }
}

impl<S> FromRequestParts<S> for ReadableSocket
where
    S: Send + Sync,
    Directory: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let directory = Directory::from_ref(state);
        let key = SocketApiKey::from_request_parts(parts, state).await?;
        let workspace = while_waiting(async {
            let access = key.access(&directory).await?;
            workspace(parts, state, &access).await
        })
        .await?;
        Ok(Self { workspace, key, directory })
    }
}

impl ReadableSocket {
    /// False only when it is sure: a database that is away closes no sockets.
    pub async fn is_still_readable(&self) -> bool {
        match self.key.access(&self.directory).await {
            Ok(access) => access.may_read(self.workspace),
            Err(error) => error.status() != axum::http::StatusCode::UNAUTHORIZED,
        }
    }
}

async fn workspace<S>(parts: &mut Parts, state: &S, access: &Access) -> Result<WorkspaceId, ApiError>
where
    S: Send + Sync,
    Directory: FromRef<S>,
{
    let Path(path) = Path::<WorkspacePath>::from_request_parts(parts, state)
        .await
        .map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let workspace = parse(&path.workspace_id)?;
    readable(&Directory::from_ref(state), access, workspace).await?;
    Ok(workspace)
}

pub(super) fn parse(text: &str) -> Result<WorkspaceId, ApiError> {
    text.parse().map_err(|_| ApiError::bad_request(format!("Invalid workspace id '{text}': not a UUID")))
}
