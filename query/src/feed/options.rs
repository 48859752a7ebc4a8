//! What a client asks of its socket: `?format=`, `?types=`, `?service_id=`.

use super::{Event, Kind};
use millrace_schemas::ServiceId;
use serde::Deserialize;

/// How frames are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Each record bare, nothing else.
    V1,
    /// Typed envelopes: `hello`, `metric`, `aggregate`, `gap`.
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub format: Format,
    pub metrics: bool,
    pub aggregates: bool,
    pub service: Option<ServiceId>,
}

/// The parameters as they are sent.
#[derive(Debug, Default, Deserialize)]
pub struct Parameters {
    format: Option<String>,
    types: Option<String>,
    service_id: Option<String>,
}

/// What is wrong with a parameter, for the client to read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Invalid format '{0}'. Valid options: v1, v2")]
    Format(String),
    #[error("Invalid type '{0}'. Valid options: metric, aggregate")]
    Type(String),
    #[error("Aggregates are sent in format v2 only: add format=v2")]
    AggregatesInV1,
    #[error("Invalid service_id '{0}': not a UUID")]
    Service(String),
}

impl TryFrom<Parameters> for Options {
    type Error = Error;

    fn try_from(sent: Parameters) -> Result<Self, Error> {
        let format = match sent.format.as_deref() {
            None | Some("v1") => Format::V1,
            Some("v2") => Format::V2,
            Some(other) => return Err(Error::Format(other.to_owned())),
        };
        let service =
            sent.service_id.map(|text| text.parse().map_err(|_| Error::Service(text))).transpose()?;
        let all = Self { format, metrics: true, aggregates: format == Format::V2, service };
        sent.types.map_or(Ok(all), |types| all.only(&types))
    }
}

impl Options {
    /// Leaves those of a comma-separated list.
    fn only(self, types: &str) -> Result<Self, Error> {
        let mut options = Self { metrics: false, aggregates: false, ..self };
        for name in types.split(',') {
            match name {
                "metric" => options.metrics = true,
                "aggregate" if self.format == Format::V1 => return Err(Error::AggregatesInV1),
                "aggregate" => options.aggregates = true,
                other => return Err(Error::Type(other.to_owned())),
            }
        }
        Ok(options)
    }

    pub fn accepts(&self, event: &Event) -> bool {
        let kind = match event.kind {
            Kind::Metric => self.metrics,
            Kind::Aggregate => self.aggregates,
        };
        kind && self.service.is_none_or(|service| service == event.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn parse(format: Option<&str>, types: Option<&str>, service: Option<&str>) -> Result<Options, String> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let sent = Parameters { format: owned(format), types: owned(types), service_id: owned(service) };
        Options::try_from(sent).map_err(|error| error.to_string())
    }

    #[test]
    fn bare_records_are_the_default() {
        let default = Options { format: Format::V1, metrics: true, aggregates: false, service: None };
        assert_eq!(parse(None, None, None), Ok(default));
        let both = Options { format: Format::V2, aggregates: true, ..default };
        assert_eq!(parse(Some("v2"), None, None), Ok(both));
        assert_eq!(parse(Some("v2"), Some("metric,aggregate"), None), Ok(both));
        assert_eq!(parse(Some("v2"), Some("aggregate"), None), Ok(Options { metrics: false, ..both }));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(parse(Some("v3"), None, None).unwrap_err(), "Invalid format 'v3'. Valid options: v1, v2");
        assert_eq!(
            parse(None, Some("gap"), None).unwrap_err(),
            "Invalid type 'gap'. Valid options: metric, aggregate"
        );
        assert_eq!(
            parse(None, Some("aggregate"), None).unwrap_err(),
            "Aggregates are sent in format v2 only: add format=v2"
        );
        assert_eq!(parse(None, None, Some("x")).unwrap_err(), "Invalid service_id 'x': not a UUID");
    }

    #[test]
    fn filters_by_service_and_kind() {
        let service = Uuid::from_u128(5).to_string();
        let options = parse(Some("v2"), Some("aggregate"), Some(&service)).expect("valid");
        let event =
            |kind, service| Event::new(kind, ServiceId(Uuid::from_u128(service)), (0, 0), "{}".into());
        assert!(options.accepts(&event(Kind::Aggregate, 5)));
        assert!(!options.accepts(&event(Kind::Aggregate, 6)));
        assert!(!options.accepts(&event(Kind::Metric, 5)));
    }
}
