//! Settings of the log's clients, and the client configurations made from them.

use millrace_schemas::topic::Topics;
use rdkafka::ClientConfig;
use std::{fmt, time::Duration};

/// Where the log is and how its topics are laid out.
#[derive(Clone, clap::Args)]
pub struct LogSettings {
    /// Brokers to start from, `host:port`, comma separated
    #[arg(long = "kafka-brokers", env = "KAFKA_BROKERS", value_name = "HOST:PORT,…", required = true)]
    pub brokers: String,
    /// Put before the name of each topic, consumer group and transaction
    #[arg(long, env = "TOPIC_PREFIX", default_value = "millrace.")]
    pub topic_prefix: String,
    /// Partitions of the raw topic, if it has to be created; the topics that stages write get as many, but at most 8
    #[arg(long, env = "TOPIC_PARTITIONS", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=300))]
    pub topic_partitions: i32,
    /// Replicas of each topic that has to be created; -1 takes the broker's default
    #[arg(long, env = "TOPIC_REPLICATION", default_value_t = -1, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1..=15))]
    pub topic_replication: i32,
    /// A further librdkafka client property (may be repeated), for example `sasl.username=me`
    #[arg(
        long = "kafka-property",
        env = "KAFKA_PROPERTIES",
        value_name = "NAME=VALUE",
        value_delimiter = ';'
    )]
    pub properties: Vec<String>,
}

/// A setting that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("--kafka-property `{0}`: it must be NAME=VALUE")]
pub struct SettingsError(String);

impl fmt::Debug for LogSettings {
    /// Values of properties may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            self.properties.iter().filter_map(|p| p.split_once('=').map(|(name, _)| name)).collect();
        f.debug_struct("LogSettings")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("topic_partitions", &self.topic_partitions)
            .field("topic_replication", &self.topic_replication)
            .field("properties", &format_args!("{names:?}=***"))
            .finish()
    }
}

impl LogSettings {
    pub fn topics(&self) -> Topics {
        Topics::with_prefix(&self.topic_prefix)
    }

    /// A group or transaction name that belongs to this installation.
    pub fn name(&self, role: &str) -> String {
        format!("{}{role}", self.topic_prefix)
    }

    /// Refuses properties that aren't `NAME=VALUE`; call it once, at start.
    pub fn validate(&self) -> Result<(), SettingsError> {
        match self.properties.iter().find(|property| !property.contains('=')) {
            Some(bad) => Err(SettingsError(bad.clone())),
            None => Ok(()),
        }
    }

    /// What every client shares.
    pub fn client(&self) -> ClientConfig {
        let mut config = self.base();
        self.add_properties(&mut config);
        config
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "millrace")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000");
        config
    }

    /// The user's own properties win, but for those that the promises rest on.
    fn add_properties(&self, config: &mut ClientConfig) {
        for (name, value) in self.properties.iter().filter_map(|property| property.split_once('=')) {
            config.set(name, value);
        }
    }

    /// A reader of committed records that never commits by itself. It has no group unless the caller sets `group.id`
    /// (librdkafka wants one to be named even where partitions are assigned by hand).
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.base();
        config
            .set("auto.offset.reset", "earliest")
            // The default of 1000 stalls a fast reader for a second whenever its queue fills.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", "100");
        self.add_properties(&mut config);
        config
            .set("group.id", self.name(group))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed");
        config
    }

    /// A producer whose deliveries are acknowledged by all in-sync replicas and never doubled by its own retries.
    /// A record that is not acknowledged within `delivery_timeout` fails.
    pub fn producer(&self, delivery_timeout: Duration) -> ClientConfig {
        let mut config = self.base();
        config
            .set("compression.type", "lz4")
            // Who waits for an acknowledgement waits for this too; where much comes, requests under way gather the rest.
            .set("linger.ms", "0.5")
            .set("message.timeout.ms", delivery_timeout.as_millis().to_string());
        self.add_properties(&mut config);
        config.set("acks", "all").set("enable.idempotence", "true").set("partitioner", "murmur2_random");
        config
    }
}

/// Sets what neither the user's properties nor anything before has set.
pub fn set_default(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}
