//! How a member keeps its group whole, and how it leaves.

use super::{
    super::{
        StageError,
        group::{Group, LOOK_LIMIT},
    },
    Assignment, Client, POLL_WAIT, lock,
};
use rdkafka::consumer::Consumer as _;
use std::time::{Duration, Instant};

/// How long the end of a member may be held up by its leaving.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

impl Client {
    /// Looks, from time to time after a change, whether every partition has an owner.
    pub(crate) fn watch(&self) -> Result<(), StageError> {
        if !lock(&self.watch).is_due(Instant::now()) {
            return Ok(());
        }
        let group = self.look();
        let must_leave =
            lock(&self.watch).saw(group.as_ref(), (&self.place, self.partitions), Instant::now());
        if must_leave {
            self.leave();
            return Err(StageError::Ownerless);
        }
        Ok(())
    }

    /// Whether all `workers` of this process have come, and nobody's partitions are about to change.
    pub(crate) fn is_shared_out(&self, workers: u16, limit: Duration) -> bool {
        let is_shared_out = |group: Group| group.is_shared_out(&self.place, workers, self.partitions);
        self.news().is_none() && self.look_for(limit).is_some_and(is_shared_out)
    }

    /// Ends the membership, so that members of other processes get the partitions at once. Where there are none it stays
    /// a member until its session ends: whoever comes back under its name finds its place.
    pub(crate) fn leave_to_others(&self) {
        if self.look().is_some_and(|group| group.has_others(&self.place)) {
            self.leave();
        }
    }

    pub(super) fn look(&self) -> Option<Group> {
        self.look_for(LOOK_LIMIT)
    }

    fn look_for(&self, limit: Duration) -> Option<Group> {
        let group = Group::look(&self.consumer, &self.group, &self.topic, limit);
        group.inspect_err(|error| tracing::debug!(%error, "the group can't be seen")).ok()
    }

    /// The coordinator is told once everything is given up; a client that ends before tells nothing, being static.
    fn leave(&self) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE_LIMIT;
        while Instant::now() < deadline && self.look().is_some_and(|group| group.has(&self.place)) {
            self.consumer.poll(POLL_WAIT);
            self.agree();
        }
    }

    /// Answers without doing anything.
    pub(super) fn agree(&self) {
        let answered = match self.news() {
            Some(Assignment::Assigned(partitions)) => {
                self.consumer.incremental_assign(&self.list(&partitions))
            }
            Some(Assignment::Revoked(partitions)) => {
                self.consumer.incremental_unassign(&self.list(&partitions))
            }
            None => return,
        };
        self.consumer.context().answered();
        if let Err(error) = answered {
            tracing::debug!(%error, "the group could not be answered");
        }
    }
}
