//! The ingest edge: HTTP requests become records of the `metrics` topic. A 202 means that the log has all of them.
//! It keeps no state beyond the requests that it is answering.

mod admission;
mod body;
mod content;
mod decode;
mod delivery;
mod edge;
mod events;
mod kafka;
mod ledger;
mod metrics;
mod phases;
mod rates;
mod routes;
mod settings;

pub use edge::{Edge, Error};
pub use settings::Settings;
