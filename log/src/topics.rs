//! Creates missing topics and checks those that exist.

use crate::LogSettings;
use millrace_schemas::topic::TopicSpec;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("creating the topic {topic}: {code}")]
    Create { topic: String, code: RDKafkaErrorCode },
    #[error("asking the brokers at {brokers} to {what}")]
    Request {
        what: &'static str,
        brokers: String,
        #[source]
        source: KafkaError,
    },
    #[error(
        "the topic {topic} has message.timestamp.type={found}, but the arrival time must come from the log: set it to LogAppendTime"
    )]
    TimestampType { topic: String, found: String },
    #[error("the topic {0} does not exist")]
    Missing(String),
}

impl Error {
    /// The same request may succeed later without a change: a broker is away, or has just come back.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Create { code, .. } => is_passing(*code),
            Self::Request { source, .. } => match source {
                KafkaError::AdminOp(code) => is_passing(*code),
                other => other.rdkafka_error_code().is_none_or(is_passing),
            },
            Self::TimestampType { .. } | Self::Missing(_) => false,
        }
    }

    /// Fewer brokers are there than a topic wants replicas: those that have just started count only after a while.
    pub fn wants_more_brokers(&self) -> bool {
        matches!(self, Self::Create { code: RDKafkaErrorCode::InvalidReplicationFactor, .. })
    }
}

/// All but what a person must change.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        Authentication, ClusterAuthorizationFailed, InvalidArgument, InvalidConfig, InvalidPartitions,
        InvalidReplicationFactor, InvalidTopic, PolicyViolation, SaslAuthenticationFailed,
        TopicAuthorizationFailed, UnsupportedFeature, UnsupportedSASLMechanism, UnsupportedVersion,
    };
    !matches!(
        code,
        Authentication
            | ClusterAuthorizationFailed
            | InvalidArgument
            | InvalidConfig
            | InvalidPartitions
            | InvalidReplicationFactor
            | InvalidTopic
            | PolicyViolation
            | SaslAuthenticationFailed
            | TopicAuthorizationFailed
            | UnsupportedFeature
            | UnsupportedSASLMechanism
            | UnsupportedVersion
    )
}

/// Waits until a broker answers, telling every few seconds that it waits; false when `shutdown` came first.
pub async fn wait_until_reachable(
    settings: &LogSettings,
    shutdown: &CancellationToken,
) -> Result<bool, Error> {
    let started = Instant::now();
    let client: BaseConsumer =
        settings.consumer("probe").create().map_err(|source| settings.failed("connect", source))?;
    let client = std::sync::Arc::new(client);
    while !shutdown.is_cancelled() {
        let probe = std::sync::Arc::clone(&client);
        let answer =
            tokio::task::spawn_blocking(move || probe.fetch_metadata(None, PROBE_TIMEOUT).map(|_| ())).await;
        match answer.map_err(|_| Error::Missing("metadata".to_owned()))? {
            Ok(()) => return Ok(true),
            Err(error) => {
                tracing::warn!(brokers = settings.brokers, waited_s = started.elapsed().as_secs(), %error, "no broker answers yet; waiting");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
    Ok(false)
}

/// Creates the topics of this installation that are missing. Those that exist keep their partitions and settings;
/// one whose timestamps are not the log's own is refused.
pub async fn ensure_topics(settings: &LogSettings) -> Result<(), Error> {
    let topics = settings.topics();
    let specs = topics.specs(settings.topic_partitions);
    let admin: AdminClient<DefaultClientContext> =
        settings.client().create().map_err(|source| settings.failed("connect", source))?;
    let options =
        AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    let wanted: Vec<NewTopic<'_>> =
        specs.iter().map(|spec| new_topic(spec, settings.topic_replication)).collect();
    let results = admin
        .create_topics(&wanted, &options)
        .await
        .map_err(|source| settings.failed("create topics", source))?;
    for result in results {
        match result {
            Ok(topic) => tracing::info!(topic, "created the topic"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::Create { topic, code }),
        }
    }
    require_append_time(&admin, settings, &topics.metrics, &options).await
}

fn new_topic(spec: &TopicSpec, replication: i32) -> NewTopic<'_> {
    let topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(replication));
    spec.config.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
}

async fn require_append_time(
    admin: &AdminClient<DefaultClientContext>,
    settings: &LogSettings,
    topic: &str,
    options: &AdminOptions,
) -> Result<(), Error> {
    let described = admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], options)
        .await
        .map_err(|source| settings.failed("describe topics", source))?;
    let found = described.into_iter().flatten().find_map(|resource| {
        let entry = resource.entries.into_iter().find(|entry| entry.name == "message.timestamp.type")?;
        entry.value
    });
    match found {
        Some(found) if found != "LogAppendTime" => {
            Err(Error::TimestampType { topic: topic.to_owned(), found })
        }
        _ => Ok(()),
    }
}

/// How many partitions `topic` has. Blocks for up to ten seconds.
pub fn partition_count<X: ConsumerContext, C: Consumer<X>>(consumer: &C, topic: &str) -> Result<i32, Error> {
    let metadata = consumer
        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
        .map_err(|source| Error::Request { what: "describe a topic", brokers: topic.to_owned(), source })?;
    let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    match i32::try_from(partitions) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Error::Missing(topic.to_owned())),
    }
}

impl LogSettings {
    fn failed(&self, what: &'static str, source: KafkaError) -> Error {
        Error::Request { what, brokers: self.brokers.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_away_is_transient_and_what_a_person_must_change_is_not() {
        let request = |source| Error::Request { what: "create topics", brokers: String::new(), source };
        let create = |code| Error::Create { topic: String::new(), code };
        for code in [
            RDKafkaErrorCode::BrokerTransportFailure,
            RDKafkaErrorCode::OperationTimedOut,
            RDKafkaErrorCode::RequestTimedOut,
            RDKafkaErrorCode::NotController,
        ] {
            assert!(
                request(KafkaError::AdminOp(code)).is_transient() && create(code).is_transient(),
                "{code}"
            );
        }
        assert!(request(KafkaError::MetadataFetch(RDKafkaErrorCode::AllBrokersDown)).is_transient());
        for code in [RDKafkaErrorCode::ClusterAuthorizationFailed, RDKafkaErrorCode::PolicyViolation] {
            assert!(
                !request(KafkaError::AdminOp(code)).is_transient() && !create(code).is_transient(),
                "{code}"
            );
        }
        let few = create(RDKafkaErrorCode::InvalidReplicationFactor);
        assert!(few.wants_more_brokers() && !few.is_transient());
        assert!(!Error::Missing("t".to_owned()).is_transient());
    }
}
