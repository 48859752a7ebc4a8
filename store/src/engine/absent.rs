//! Builds without the embedded PostgreSQL, by choice or because there are no artifacts of it for the platform: everything
//! compiles, and the start says so.

use super::Event;
use crate::{Error, folder::Folder};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub const SUPPORTED: bool = false;

pub fn start(_: Folder, _: usize, _: mpsc::Sender<Event>, _: CancellationToken) -> Result<(), Error> {
    Err(Error::Unsupported { platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH) })
}
