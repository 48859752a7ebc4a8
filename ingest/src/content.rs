//! What a request's headers say about its body: how the events are laid out, and how they are compressed.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use millrace_tenancy::http::ApiError;

/// How a body holds events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One object, `{"metrics": [event, …]}`.
    Json,
    /// An event a line.
    Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// Both.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    pub format: Format,
    pub encoding: Encoding,
}

impl Content {
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self { format: Format::of(headers)?, encoding: Encoding::of(headers)? })
    }
}

impl Format {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let given = text(headers.get(header::CONTENT_TYPE));
        let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            "application/x-ndjson" | "application/ndjson" => Ok(Self::Lines),
            _ => Err(unsupported("The Content-Type must be application/json or application/x-ndjson")),
        }
    }
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut all = headers.get_all(header::CONTENT_ENCODING).iter();
        let first = text(all.next()).trim().to_ascii_lowercase();
        match (first.as_str(), all.next()) {
            ("" | "identity", None) => Ok(Self::Identity),
            ("gzip" | "x-gzip", None) => Ok(Self::Gzip),
            ("zstd", None) => Ok(Self::Zstd),
            _ => Err(unsupported("The Content-Encoding must be gzip or zstd, or there must be none")),
        }
    }
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.map_or("", |value| value.to_str().unwrap_or("?"))
}

fn unsupported(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn knows_the_layouts_by_their_types() {
        let format = |value| Format::of(&headers(&[("content-type", value)])).ok();
        assert_eq!(format("application/json"), Some(Format::Json));
        assert_eq!(format("Application/JSON; charset=utf-8"), Some(Format::Json));
        assert_eq!(format("application/x-ndjson"), Some(Format::Lines));
        assert_eq!(format("application/ndjson"), Some(Format::Lines));
        assert_eq!(format("text/plain"), None);
        assert!(Format::of(&HeaderMap::new()).is_err());
    }

    #[test]
    fn knows_gzip_and_zstd_and_never_two_of_them() {
        let encoding = |value| Encoding::of(&headers(&[("content-encoding", value)])).ok();
        assert_eq!(encoding("gzip"), Some(Encoding::Gzip));
        assert_eq!(encoding("ZSTD"), Some(Encoding::Zstd));
        assert_eq!(encoding("identity"), Some(Encoding::Identity));
        assert_eq!(encoding("br"), None);
        assert_eq!(encoding("gzip, zstd"), None);
        assert!(
            Encoding::of(&headers(&[("content-encoding", "gzip"), ("content-encoding", "gzip")])).is_err()
        );
        assert_eq!(Encoding::of(&HeaderMap::new()).ok(), Some(Encoding::Identity));
    }
}
