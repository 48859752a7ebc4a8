//! Waiting for the disk: as the settings promise it, or in any case.

use crate::{
    Fsync,
    log::{Durable, SyncTarget, Syncer},
};
use kafka_protocol::ResponseError;
use std::{fs::File, sync::Arc};
use tokio::sync::watch;

/// A file that the syncer forces, and how far it has.
pub struct Forcing {
    target: Arc<SyncTarget>,
    synced: watch::Receiver<u64>,
}

/// Up to where a file is to be on the disk.
pub struct Reached(watch::Receiver<u64>, u64);

impl Forcing {
    /// For a file whose first bytes, up to `synced`, are on the disk.
    pub fn new(syncer: &Arc<Syncer>, synced: u64) -> Self {
        let (sender, synced) = watch::channel(synced);
        let target = syncer.target(Box::new(move |mark| {
            sender.send_replace(mark);
        }));
        Self { target, synced }
    }

    pub fn wrote(&self, file: &Arc<File>, len: u64) -> Durable {
        self.target.wrote(file, len)
    }

    pub fn reached(&self, len: u64) -> Reached {
        Reached(self.synced.clone(), len)
    }
}

/// Resolves when what was appended is durable.
#[derive(Default)]
pub struct Written {
    promised: Vec<Durable>,
    forced: Option<(Arc<Syncer>, Vec<Reached>)>,
}

impl Written {
    pub fn promised(promised: Vec<Durable>) -> Self {
        Self { promised, forced: None }
    }

    /// With `os` nothing is ever forced, and nothing waits for it.
    pub fn forced(syncer: &Arc<Syncer>, reached: Vec<Reached>) -> Self {
        let forced = (syncer.fsync() != Fsync::Os).then(|| (Arc::clone(syncer), reached));
        Self { promised: Vec::new(), forced }
    }

    pub async fn wait(self) -> Result<(), ResponseError> {
        for durable in self.promised {
            durable.wait().await.map_err(|refused| refused.error)?;
        }
        let Some((syncer, reached)) = self.forced else { return Ok(()) };
        for Reached(mut synced, len) in reached {
            tokio::select! {
                is_there = synced.wait_for(|synced| *synced >= len) => {
                    is_there.map_err(|_| ResponseError::KafkaStorageError)?;
                }
                _failure = syncer.failed() => return Err(ResponseError::KafkaStorageError),
            }
        }
        Ok(())
    }
}
