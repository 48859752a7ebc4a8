//! Reads a journal: all events, up to a tail that a crash has torn.

use super::{EVENT_BYTES_MAX, Event, FRAME_BYTES, HEADER};
use crate::log::Error;
use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
};

/// The length of what is good; 0 where not even the header is. The rest is cut off.
pub fn read(file: &File, path: &Path, mut replay: impl FnMut(Event)) -> Result<u64, Error> {
    let size = file.metadata().map_err(Error::io("reading", path))?.len();
    if !has_header(file, size).map_err(Error::io("reading", path))? {
        return Ok(0);
    }
    let mut position = HEADER.len() as u64;
    while position < size {
        let payload = event_at(file, position, size).map_err(Error::io("reading", path))?;
        let Some(payload) = payload else { break };
        let event = serde_json::from_slice(&payload);
        replay(event.map_err(|error| damaged(path, position, &format!("holds no known event ({error})")))?);
        position += (FRAME_BYTES + payload.len()) as u64;
    }
    if position < size {
        cut(file, path, position, size)?;
    }
    Ok(position)
}

fn has_header(file: &File, size: u64) -> io::Result<bool> {
    let mut found = [0; HEADER.len()];
    let len = usize::try_from(size).map_or(HEADER.len(), |size| size.min(HEADER.len()));
    file.read_exact_at(&mut found[..len], 0)?;
    let (name, version) = HEADER.split_at(HEADER.len() - 1);
    if len < HEADER.len() && (HEADER.starts_with(&found[..len]) || found == [0; HEADER.len()]) {
        return Ok(false);
    }
    if !found.starts_with(name) {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no journal of groups and transactions"));
    }
    if found[HEADER.len() - 1] != version[0] {
        let text = format!("it has format {}, written by a newer Millrace", found[HEADER.len() - 1]);
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    Ok(true)
}

/// The whole event that begins here, if one does.
fn event_at(file: &File, position: u64, size: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(left) = size.checked_sub(position + FRAME_BYTES as u64) else { return Ok(None) };
    let mut frame = [0; FRAME_BYTES];
    file.read_exact_at(&mut frame, position)?;
    let [a, b, c, d, crc @ ..] = frame;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len == 0 || len > EVENT_BYTES_MAX || len as u64 > left {
        return Ok(None);
    }
    let mut payload = vec![0; len];
    file.read_exact_at(&mut payload, position + FRAME_BYTES as u64)?;
    Ok((crc32c::crc32c(&payload) == u32::from_le_bytes(crc)).then_some(payload))
}

/// Cuts off a torn tail. Where a good event follows it is no tail but damage, and what it said is not given up silently.
fn cut(file: &File, path: &Path, position: u64, size: u64) -> Result<(), Error> {
    if let Some(next) = next_event(file, position + 1, size).map_err(Error::io("reading", path))? {
        return Err(damaged(path, position, &format!("is damaged, and good events follow at byte {next}")));
    }
    let bytes = size - position;
    tracing::warn!(path = %path.display(), position, bytes, "cut off the end of a write that a crash had broken off");
    file.set_len(position).and_then(|()| file.sync_all()).map_err(Error::io("truncating", path))
}

/// Looks for an event at any later byte; only what looks like one is read.
fn next_event(file: &File, from: u64, size: u64) -> io::Result<Option<u64>> {
    const WINDOW: usize = 1 << 20;
    let mut window = vec![0; WINDOW + FRAME_BYTES];
    let mut start = from;
    while start + (FRAME_BYTES as u64) < size {
        let len = usize::try_from(size - start).map_or(window.len(), |left| left.min(window.len()));
        file.read_exact_at(&mut window[..len], start)?;
        for offset in 0..len.saturating_sub(FRAME_BYTES).min(WINDOW) {
            // An event is a JSON object.
            let begins = window[offset + FRAME_BYTES] == b'{';
            if begins && event_at(file, start + offset as u64, size)?.is_some() {
                return Ok(Some(start + offset as u64));
            }
        }
        start += WINDOW as u64;
    }
    Ok(None)
}

fn damaged(path: &Path, position: u64, what: &str) -> Error {
    let text = format!(
        "what is at byte {position} {what}; put back a copy of the file, or remove it: then groups lose their committed \
         offsets and open transactions, and records stay"
    );
    Error::io("reading", path)(io::Error::new(ErrorKind::InvalidData, text))
}
