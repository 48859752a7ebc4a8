//! The query service: aggregates from PostgreSQL, recent records from the log's tail and the archive, and a live feed
//! over WebSockets. It only reads: nothing here commits an offset or changes a row, and it produces nothing but the dead
//! letters that it is told to send through once more.

mod archive;
mod brokers;
mod bucket;
mod feed;
mod ledger;
mod letters;
mod meters;
mod pipeline;
mod reach;
mod recent;
mod record;
mod routes;
mod service;
mod settings;
mod tail;

pub use archive::Error as ArchiveError;
pub use service::{Components, Error, QueryService, Readiness};
pub use settings::{ArchiveLocation, Settings};
