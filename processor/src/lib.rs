//! The processor role: raw records → partial states → windows → stored rows, and the archive.
//!
//! The core (`record`, `admission`, `sketch`, `aggregate`, `plan`, `window`) is pure and takes time as an argument; the
//! shells (`stage`, `sink`, `archive`) speak to Kafka, PostgreSQL and object stores and decide nothing.

pub mod admission;
pub mod aggregate;
pub mod plan;
pub mod record;
pub mod settings;
pub mod sketch;
mod role;
pub mod stage;
pub mod window;

pub use role::{Components, Error, run};
pub use settings::Settings;
