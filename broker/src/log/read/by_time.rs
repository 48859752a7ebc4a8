//! Offsets by time: the first record at or after a timestamp, and the one with the greatest.

use super::{Place, Source};
use crate::log::{
    Refused,
    batch::{LOG_APPEND_TIME, records},
    core::{Core, storage},
    index::Largest,
    scan::{Found, ScanError, Scanner},
};
use kafka_protocol::ResponseError;
use std::{fs::File, io, sync::Arc};

/// Segments are replaced and removed seldom; so often in a row means that a file is missing.
const ATTEMPTS: usize = 100;

impl Core {
    pub fn offset_for(&self, timestamp: i64) -> Result<Option<(i64, i64)>, Refused> {
        self.retried(|| {
            let (log_start, places) = self.places_for(timestamp);
            for place in places {
                let (file, position, limit) = self.open_for_time(&place, timestamp)?;
                if let Some(found) = first_at(&file, (position, limit), log_start, timestamp)? {
                    return Ok((place.generation, Some(found)));
                }
            }
            Ok((self.lock().generation, None))
        })
    }

    pub fn latest_timestamp(&self) -> Result<Option<(i64, i64)>, Refused> {
        self.retried(|| {
            let (log_start, largest, place) = {
                let inner = self.lock();
                let mut all: Vec<Largest> = inner.sealed.iter().map(|segment| segment.largest).collect();
                all.push(inner.active.index.largest);
                // The first of those that are equal.
                let Some(largest) = all.into_iter().rev().max_by_key(|largest| largest.timestamp) else {
                    return Ok((inner.generation, None));
                };
                (inner.log_start, largest, inner.place(largest.offset))
            };
            if largest.timestamp < 0 {
                return Ok((place.generation, None));
            }
            let (file, position, limit) = self.open_at(&place, largest.offset)?;
            Ok((place.generation, first_at(&file, (position, limit), log_start, largest.timestamp)?))
        })
    }

    /// Segments that may have the record, in order.
    fn places_for(&self, timestamp: i64) -> (i64, Vec<Place>) {
        let inner = self.lock();
        let from = inner.segment_with(inner.log_start);
        let sealed = inner.sealed[from..].iter().filter(|segment| segment.largest.timestamp >= timestamp);
        // The first may have it before the start of the log only.
        let mut places: Vec<Place> = sealed.take(2).map(|segment| inner.place(segment.base)).collect();
        if inner.active.index.largest.timestamp >= timestamp {
            let mut place = inner.place(inner.active.base);
            if let Source::Active(_, position, limit) = &mut place.source {
                *position = inner.active.index.position(inner.active.index.offset_before(timestamp));
                *limit = inner.active.size;
            }
            places.push(place);
        }
        (inner.log_start, places)
    }

    fn open_for_time(&self, place: &Place, timestamp: i64) -> Result<(Arc<File>, u64, u64), ScanError> {
        match &place.source {
            Source::Active(file, position, limit) => Ok((Arc::clone(file), *position, *limit)),
            Source::Sealed(segment) => {
                let offset = segment.offset_before(&self.folder, timestamp).unwrap_or(segment.base);
                self.open_at(place, offset)
            }
        }
    }

    fn open_at(&self, place: &Place, offset: i64) -> Result<(Arc<File>, u64, u64), ScanError> {
        match &place.source {
            Source::Active(file, position, limit) => Ok((Arc::clone(file), *position, *limit)),
            Source::Sealed(segment) => {
                let file = segment.file(&self.folder)?;
                let position = segment.position(&self.folder, offset).unwrap_or(0);
                Ok((file, position, segment.size))
            }
        }
    }

    /// Searches again where segments were replaced meanwhile.
    fn retried(
        &self,
        search: impl Fn() -> Result<(u64, Option<(i64, i64)>), ScanError>,
    ) -> Result<Option<(i64, i64)>, Refused> {
        for _ in 0..ATTEMPTS {
            self.lock().check_open()?;
            let before = self.lock().generation;
            let result = search();
            if self.lock().generation != before {
                continue;
            }
            return match result {
                Ok((_, found)) => Ok(found),
                // Retention took the segment.
                Err(ScanError::Io(error)) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(ScanError::Io(error)) => Err(storage(format!("searching by time failed: {error}"))),
                Err(error) => Err(Refused::new(ResponseError::CorruptMessage, error.to_string())),
            };
        }
        Err(storage("a segment's file is missing".to_owned()))
    }
}

/// The first record at or after `timestamp`, not before the start of the log: (offset, timestamp).
fn first_at(
    file: &File,
    (position, limit): (u64, u64),
    log_start: i64,
    timestamp: i64,
) -> Result<Option<(i64, i64)>, ScanError> {
    let mut scanner = Scanner::new(file, position, limit);
    while let Some(Found { header, position, bytes }) = scanner.next()? {
        if header.max_timestamp < timestamp || header.last_offset() < log_start {
            continue;
        }
        if header.is(LOG_APPEND_TIME) {
            return Ok(Some((header.base_offset.max(log_start), header.max_timestamp)));
        }
        let mut found = None;
        let walked = records::walk(bytes, &header, |record| {
            let offset = header.base_offset + i64::from(record.offset_delta);
            if record.timestamp >= timestamp && offset >= log_start {
                found = Some((offset, record.timestamp));
            }
            found.is_none()
        });
        if let Err(error) = walked {
            tracing::warn!(offset = header.base_offset, %error, position, "a batch can't be searched by time");
        }
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
