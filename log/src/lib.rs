//! How Millrace speaks to a Kafka-compatible log: settings, client configurations, topics and the offset newtype.
//! Every role uses the same; none of them knows whether the log is Apache Kafka or embedded.

mod batches;
mod flush;
mod kafka_offset;
mod offset;
mod publisher;
mod settings;
mod topics;
mod wake;

pub use batches::{Batches, Fetched};
pub use flush::flush;
pub use offset::NextOffset;
pub use publisher::{Error as PublishError, Publisher};
pub use settings::{LogSettings, SettingsError};
pub use topics::{Error as TopicsError, ensure_topics, partition_count, wait_until_reachable};
pub use wake::wake;
