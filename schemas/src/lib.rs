//! The contracts of the seams: records, topics, keys and their codecs, and the JSON Schemas made from them.
//! Nothing here touches a network, a clock or a database.

pub mod aggregate;
pub mod dead_letter;
pub mod ids;
pub mod json;
pub mod json_schema;
pub mod key;
pub mod ledger;
pub mod metric;
pub mod partial;
pub mod progress;
pub mod time;
pub mod token;
pub mod topic;
pub mod window;

pub use aggregate::AggregateRow;
pub use ids::{RecordId, ServiceId, WorkspaceId};
pub use metric::{FieldError, QueryMetric, Status};
pub use time::EventTime;
pub use token::CommitToken;
pub use window::Window;
