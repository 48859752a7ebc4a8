//! What happens to a log over time: rolling, retention by time and size, deleted records, and its end.

use super::{
    Error, Refused,
    checkpoint::Checkpoint,
    core::{Core, Inner, Maintenance, State, storage},
    files,
    recovery::remove_segment,
    segment::Segment,
};
use kafka_protocol::ResponseError;
use std::sync::{Arc, MutexGuard};

/// How often idle producers are looked for.
const EXPIRE_EVERY_MS: i64 = 60_000;

impl Core {
    pub fn maintain(&self, now_ms: i64) -> Result<(), Error> {
        let mut maintenance = self.maintenance();
        if self.lock().state != State::Open || self.syncer.is_failed() {
            return Ok(());
        }
        let result = self.maintain_open(&mut maintenance, now_ms);
        // What ends in between takes its files along.
        if self.lock().state == State::Open { result } else { Ok(()) }
    }

    fn maintain_open(&self, maintenance: &mut Maintenance, now_ms: i64) -> Result<(), Error> {
        let rolled = self.roll_if_due(now_ms);
        // Before all that writes: a full disk must come free.
        let retained = self.retain(maintenance, now_ms);
        let saved = self.checkpoint_if_due(maintenance);
        if now_ms - maintenance.expired_ms >= EXPIRE_EVERY_MS {
            maintenance.expired_ms = now_ms;
            self.lock().producers.expire(now_ms);
        }
        let compacted = self.compact_if_due(maintenance, now_ms);
        rolled.and(retained).and(saved).and(compacted)
    }

    fn maintenance(&self) -> MutexGuard<'_, Maintenance> {
        self.maintenance.lock().expect("a thread panicked in maintenance: the log's files can't be trusted")
    }

    fn roll_if_due(&self, now_ms: i64) -> Result<(), Error> {
        let config = self.config();
        let mut inner = self.lock();
        if inner.active.is_due(&config, now_ms) { self.roll(&mut inner) } else { Ok(()) }
    }

    fn retain(&self, maintenance: &mut Maintenance, now_ms: i64) -> Result<(), Error> {
        let forgotten = self.forget(maintenance, now_ms);
        let removed = self.remove(maintenance);
        forgotten.and(removed)
    }

    /// Takes whole segments at the front out of the log: those before its start, and those too old or too many.
    fn forget(&self, maintenance: &mut Maintenance, now_ms: i64) -> Result<(), Error> {
        let config = self.config();
        let mut inner = self.lock();
        let old = |newest_ms: i64| {
            config.delete
                && config.retention_ms.is_some_and(|kept_ms| now_ms.saturating_sub(newest_ms) > kept_ms)
        };
        let all_old = inner.active.size > 0
            && old(inner.active_newest_ms())
            && inner.sealed.iter().all(|one| old(one.newest_ms()));
        let rolled = if all_old { self.roll(&mut inner) } else { Ok(()) };
        let mut spare = match config.retention_bytes.filter(|_| config.delete) {
            Some(kept) => inner.size().saturating_sub(kept),
            None => 0,
        };
        let mut gone = |segment: &Arc<Segment>, inner: &Inner| {
            let too_many = segment.size > 0 && segment.size <= spare;
            let shown = segment.end <= inner.high_watermark;
            let gone = segment.end <= inner.log_start || (shown && (too_many || old(segment.newest_ms())));
            if gone {
                spare = spare.saturating_sub(segment.size);
            }
            gone
        };
        let count = inner.sealed.iter().take_while(|segment| gone(segment, &inner)).count();
        if count == 0 {
            return rolled;
        }
        let removed: Vec<Arc<Segment>> = inner.sealed.drain(..count).collect();
        inner.unsaved.retain(|unsaved| !removed.iter().any(|segment| Arc::ptr_eq(segment, unsaved)));
        let start = inner.sealed.first().map_or(inner.active.base, |segment| segment.base);
        inner.log_start = inner.log_start.max(start);
        self.publish(&inner);
        maintenance.removed.extend(removed);
        rolled
    }

    /// The start of the log is durable before the files go, so that a hole can't be mistaken for damage. Where it can't be
    /// written, as on a full disk, each file is surely gone before the next one goes. What fails is tried again.
    fn remove(&self, maintenance: &mut Maintenance) -> Result<(), Error> {
        let mut start_is_saved = false;
        while let Some(segment) = maintenance.removed.front().cloned() {
            self.uncover(&segment, maintenance)?;
            start_is_saved = start_is_saved || self.start_is_saved();
            tracing::debug!(folder = %self.folder.display(), base = segment.base, bytes = segment.size, "a segment is removed");
            remove_segment(&self.folder, segment.base)?;
            maintenance.removed.pop_front();
            if !start_is_saved || maintenance.removed.is_empty() {
                files::sync_folder(&self.folder)?;
            }
        }
        Ok(())
    }

    fn start_is_saved(&self) -> bool {
        let log_start = self.lock().log_start;
        let saved = self.save_start(log_start);
        if let Err(error) = &saved {
            tracing::warn!(error = %error.with_cause(), "segments are removed one by one");
        }
        saved.is_ok()
    }

    /// Nor may the checkpoint speak of a segment that is gone. Without one the next start scans all.
    fn uncover(&self, segment: &Segment, maintenance: &mut Maintenance) -> Result<(), Error> {
        if segment.base < maintenance.saved.0 {
            return Ok(());
        }
        let Err(error) = self.checkpoint(maintenance) else { return Ok(()) };
        if self.syncer.is_failed() {
            return Err(error);
        }
        tracing::warn!(error = %error.with_cause(), "the log has no checkpoint until one can be written");
        maintenance.saved = (i64::MIN, 0);
        Checkpoint::remove(&self.folder)
    }

    pub fn delete_before(&self, offset: i64) -> Result<i64, Refused> {
        if !self.config().delete {
            let message = "the topic's cleanup.policy does not contain delete".to_owned();
            return Err(Refused::new(ResponseError::PolicyViolation, message));
        }
        let inner = self.lock();
        inner.check_open()?;
        let offset = if offset == -1 { inner.high_watermark } else { offset };
        if offset < 0 || offset > inner.high_watermark {
            let message = format!("offset {offset} is past the high watermark {}", inner.high_watermark);
            return Err(Refused::new(ResponseError::OffsetOutOfRange, message));
        }
        if offset <= inner.log_start {
            return Ok(inner.log_start);
        }
        drop(inner);
        // On the disk first: what was answered as deleted does not come back.
        self.save_start(offset).map_err(|error| storage(error.with_cause()))?;
        let mut inner = self.lock();
        inner.log_start = inner.log_start.max(offset);
        self.publish(&inner);
        Ok(inner.log_start)
    }

    pub fn close(&self) -> Result<(), Error> {
        if self.lock().state != State::Open {
            return Ok(());
        }
        // First, so that a compaction ends early.
        self.end(State::Closed);
        let mut maintenance = self.maintenance();
        let saved = {
            let inner = self.lock();
            inner.unsaved.is_empty() && maintenance.saved == (inner.active.base, inner.active.size)
        };
        if saved && !self.checkpoint_is_missing() { Ok(()) } else { self.checkpoint(&mut maintenance) }
    }

    /// Takes no more, and wakes those that wait.
    pub fn end(&self, state: State) {
        self.lock().state = state;
        self.changes.send_modify(|_| {});
    }
}

impl Inner {
    fn size(&self) -> u64 {
        self.sealed.iter().map(|segment| segment.size).sum::<u64>() + self.active.size
    }

    fn active_newest_ms(&self) -> i64 {
        let newest = self.active.index.largest.timestamp;
        if newest >= 0 { newest } else { self.active.modified_ms }
    }
}
