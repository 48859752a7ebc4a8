//! The key of a request: `Authorization: Bearer K` or `X-API-Key: K`, and for sockets of browsers `?api_key=K`.

use super::ApiError;
use crate::{Access, Directory, directory::sha256};
use axum::{
    extract::{FromRef, FromRequestParts, Query},
    http::{HeaderMap, header, request::Parts},
};
use millrace_schemas::WorkspaceId;
use serde::Deserialize;
use std::fmt;

/// A key that was sent; nobody has checked it yet. As an axum extractor it answers 401 where there is none.
pub struct ApiKey(String);

/// Like [`ApiKey`], and also takes `?api_key=`, as a browser can't set a socket's headers.
pub struct SocketApiKey(ApiKey);

#[derive(Deserialize)]
struct KeyQuery {
    api_key: Option<String>,
}

impl ApiKey {
    /// The scheme is `Bearer`, written so, and one space. A key in `Authorization` wins over `X-API-Key`.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let key = bearer.or_else(|| text("x-api-key")).filter(|key| !key.is_empty());
        key.map(|key| Self(key.to_owned()))
            .ok_or_else(|| ApiError::unauthorized("Missing Authorization header"))
    }

    /// What identifies the key where the key itself must not be kept.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.0)
    }

    /// What the key opens: 401 for one that nobody has.
    pub async fn access(&self, directory: &Directory) -> Result<Access, ApiError> {
        let access = directory.authenticate(&self.0).await?;
        access.ok_or_else(|| ApiError::unauthorized("Invalid API key"))
    }
}

impl SocketApiKey {
    pub async fn access(&self, directory: &Directory) -> Result<Access, ApiError> {
        self.0.access(directory).await
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

impl<S: Sync> FromRequestParts<S> for ApiKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::from_headers(&parts.headers)
    }
}

impl<S: Sync> FromRequestParts<S> for SocketApiKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let missing = match ApiKey::from_headers(&parts.headers) {
            Ok(key) => return Ok(Self(key)),
            Err(missing) => missing,
        };
        let query = Query::<KeyQuery>::try_from_uri(&parts.uri).ok();
        let key = query.and_then(|Query(query)| query.api_key).filter(|key| !key.is_empty());
        key.map(|key| Self(ApiKey(key))).ok_or(missing)
    }
}

/// A handler that takes an [`Access`] only runs for a request with a valid key in its headers.
impl<S: Sync> FromRequestParts<S> for Access
where
    Directory: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        ApiKey::from_headers(&parts.headers)?.access(&Directory::from_ref(state)).await
    }
}

/// 403 if the key may not read `workspace`, 404 if it could but no such workspace exists.
pub async fn readable(
    directory: &Directory,
    access: &Access,
    workspace: WorkspaceId,
) -> Result<(), ApiError> {
    if !access.may_read(workspace) {
        return Err(ApiError::forbidden("The key may not read this workspace"));
    }
    // A workspace that has a key exists.
    if access.workspace.is_none() && !directory.known(&[workspace]).await?.contains(&workspace) {
        return Err(ApiError::not_found("Workspace not found"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn key(name: &str, value: &str) -> Option<String> {
        let request = Request::builder().header(name, value).body(()).expect("a request");
        ApiKey::from_headers(request.headers()).ok().map(|key| key.0)
    }

    #[test]
    fn takes_bearer_and_x_api_key_only() {
        assert_eq!(key("Authorization", "Bearer k").as_deref(), Some("k"));
        assert_eq!(key("X-API-Key", "k").as_deref(), Some("k"));
        for refused in ["bearer k", "Basic k", "Bearer", "Bearer ", "k", ""] {
            assert_eq!(key("Authorization", refused), None, "{refused}");
        }
    }

    #[test]
    fn bearer_wins_and_another_scheme_does_not_hide_x_api_key() {
        let both = |authorization: &str| {
            let request = Request::builder().header("Authorization", authorization).header("X-API-Key", "b");
            ApiKey::from_headers(request.body(()).expect("a request").headers()).ok().map(|key| key.0)
        };
        assert_eq!(both("Bearer a").as_deref(), Some("a"));
        assert_eq!(both("Basic a").as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn only_a_socket_takes_it_from_the_query() {
        let request = Request::builder().uri("/ws?format=v2&api_key=a%20b").body(()).expect("a request");
        let (mut parts, ()) = request.into_parts();
        assert!(ApiKey::from_request_parts(&mut parts, &()).await.is_err());
        let key = SocketApiKey::from_request_parts(&mut parts, &()).await.expect("the key of the query");
        assert_eq!(key.0.0, "a b");
        assert_eq!(format!("{:?}", key.0), "ApiKey(***)");
    }
}
