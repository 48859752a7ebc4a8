//! The processor role: raw records → partial states → windows → stored rows, and the archive.
//!
//! The core (`record`, `admission`, `sketch`, `aggregate`, `plan`, `window`) is pure and takes time as an argument; the
//! shells (`stage`, `sink`, `archive`, `ledger`) speak to Kafka, PostgreSQL and object stores and decide nothing.

pub mod admission;
pub mod aggregate;
pub mod archive;
pub mod audit;
mod history;
mod ledger;
pub mod plan;
pub mod rebuild;
pub mod record;
mod role;
pub mod settings;
pub mod sink;
pub mod sketch;
pub mod stage;
pub mod window;

pub use role::{Components, Error, run, run_windows};
pub use settings::Settings;
