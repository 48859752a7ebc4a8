//! How Millrace speaks to a Kafka-compatible log: settings, client configurations, topics and the offset newtype.
//! Every role uses the same; none of them knows whether the log is Apache Kafka or embedded.

mod batches;
mod closing;
mod flush;
mod hear_out;
mod kafka_offset;
mod offset;
mod publisher;
mod seek;
mod settings;
mod topics;
mod wake;

pub use batches::{Batches, Fetched, whole_milliseconds};
pub use closing::is_closing;
pub use flush::flush;
pub use hear_out::hear_out;
pub use offset::NextOffset;
pub use publisher::{Error as PublishError, Publisher};
pub use seek::seek;
pub use settings::{LogSettings, SettingsError, set_default};
pub use topics::{Error as TopicsError, ensure_topics, partition_count, wait_until_reachable};
pub use wake::wake;
