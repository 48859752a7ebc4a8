//! Who may do what: workspaces, their services and their keys, in PostgreSQL.
//! Other crates see values ([`Access`], [`Workspace`]) and a [`Directory`] to ask; the SQL stays in here.

mod access;
mod cache;
mod database;
mod directory;
mod error;
pub mod http;
mod migrate;
mod seed;
mod settings;

pub use access::{Access, Service, Workspace};
pub use directory::Directory;
pub use error::Error;
pub use migrate::migrate;
pub use seed::{ADMIN_KEY, SERVICE, WORKSPACE, WORKSPACE_KEY, seed_development};
pub use settings::StoreSettings;
