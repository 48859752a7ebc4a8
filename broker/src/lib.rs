//! The embedded log: a single-node, Kafka-compatible broker in this process, with durable data in a folder.
//!
//! `log` keeps records, `topics` knows which logs there are, `coordinator` keeps groups and transactions, `api` answers
//! requests from these, and `net` carries requests and answers. Not here: replication, access control, quotas.

pub mod api;
pub mod broker;
pub mod clock;
pub mod coordinator;
pub mod log;
pub mod net;
pub mod settings;
pub mod topics;

pub use broker::{Broker, Error, Meters};
pub use settings::{Fsync, Settings};
