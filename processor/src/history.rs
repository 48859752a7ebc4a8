//! The past as the log has it, read from outside the stages: for `rebuild` and `audit`. It only reads.

pub(crate) mod ends;
pub(crate) mod judged;
pub(crate) mod told;

use crate::{
    settings::AdmissionSettings,
    stage::{StageError, past::Past},
};
use millrace_log::LogSettings;
use millrace_tenancy::Directory;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// What reading it takes. Kafka's clients block, so all of it runs on a thread that may.
#[derive(Clone)]
pub(crate) struct History {
    pub log: LogSettings,
    pub directory: Directory,
    pub admission: AdmissionSettings,
    pub handle: Handle,
    pub shutdown: CancellationToken,
}

impl History {
    pub(crate) fn past(&self) -> Result<Past, StageError> {
        Past::connect(&self.log)
    }
}
