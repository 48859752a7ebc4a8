//! The fast path for records in the form that nearly every producer writes: one line of JSON, the known fields in any
//! order, ids with hyphens, times in UTC; and a faster one for the order and the spacing of serde, in which services in Rust
//! write them, and the edge what it writes anew. Both take only what is certainly valid. Whatever else there is, right or wrong, is left to the full reader, which
//! also finds the words for what is wrong.

use super::{
    DURATION_MS_MAX, ERROR_MESSAGE_BYTES_MAX, QUERY_TEXT_BYTES_MAX, QueryMetric, Status, TAG_BYTES_MAX,
    TAGS_MAX, reader::Reader,
};
use crate::{EventTime, RecordId, ServiceId, WorkspaceId};
use memchr::memchr;
use uuid::Uuid;

/// Fields as serde writes them: the next one is looked for first.
const FIELDS: [&[u8]; 11] = [
    b"id\"",
    b"workspace_id\"",
    b"service_id\"",
    b"query_text\"",
    b"status\"",
    b"duration_ms\"",
    b"rows_affected\"",
    b"error_message\"",
    b"started_at\"",
    b"completed_at\"",
    b"tags\"",
];
/// Those that may be missing.
const OPTIONAL: u16 = 1 << 6 | 1 << 7 | 1 << 10;
const ALL: u16 = (1 << FIELDS.len()) - 1;

/// The same, with all that stands before their values where serde writes them.
const USUAL: [&[u8]; 11] = [
    b"{\"id\":",
    b",\"workspace_id\":",
    b",\"service_id\":",
    b",\"query_text\":",
    b",\"status\":",
    b",\"duration_ms\":",
    b",\"rows_affected\":",
    b",\"error_message\":",
    b",\"started_at\":",
    b",\"completed_at\":",
    b",\"tags\":",
];

/// What a reader knows of every record, and checks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fields {
    pub id: RecordId,
    pub workspace_id: WorkspaceId,
    pub service_id: ServiceId,
    pub status: Status,
    pub duration_ms: Option<f64>,
    pub rows_affected: Option<i64>,
    pub completed_at: EventTime,
}

/// What becomes of the others: they are valid JSON, and no longer than allowed. Strings come as they stand between their
/// quotes; [`unescape`] reads them.
pub trait Rest {
    /// All of this record's.
    fn forget(&mut self);
    fn query_text(&mut self, text: &[u8]) -> Option<()>;
    fn error_message(&mut self, text: &[u8]) -> Option<()>;
    fn tags(&mut self);
    fn tag(&mut self, text: &[u8]) -> Option<()>;
    /// `None` if that is no time in UTC.
    fn started_at(&mut self, text: &[u8]) -> Option<()>;
}

/// Appends what a string says that a [`Rest`] was given. `None` if it is no UTF-8: then there is nothing new. Of other text it may
/// panic: there is no `\u` in it, and there are no other escapes than JSON has.
pub fn unescape(text: &[u8], into: &mut String) -> Option<()> {
    let mut left = str::from_utf8(text).ok()?;
    while let Some(at) = memchr(b'\\', left.as_bytes()) {
        into.push_str(&left[..at]);
        into.push(match left.as_bytes()[at + 1] {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            itself => char::from(itself),
        });
        left = &left[at + 2..];
    }
    into.push_str(left);
    Some(())
}

/// Nobody needs them.
pub struct Checked;

impl Rest for Checked {
    #[inline]
    fn forget(&mut self) {}

    #[inline]
    fn query_text(&mut self, _: &[u8]) -> Option<()> {
        Some(())
    }

    #[inline]
    fn error_message(&mut self, _: &[u8]) -> Option<()> {
        Some(())
    }

    #[inline]
    fn tags(&mut self) {}

    #[inline]
    fn tag(&mut self, _: &[u8]) -> Option<()> {
        Some(())
    }

    #[inline]
    fn started_at(&mut self, text: &[u8]) -> Option<()> {
        EventTime::is_utc(text).then_some(())
    }
}

/// Each in a string of its own.
struct Owned {
    query_text: String,
    error_message: Option<String>,
    started_at: EventTime,
    tags: Vec<String>,
}

impl Default for Owned {
    fn default() -> Self {
        Self { query_text: String::new(), error_message: None, started_at: EventTime(0), tags: Vec::new() }
    }
}

fn string(text: &[u8]) -> Option<String> {
    let mut string = String::with_capacity(text.len());
    unescape(text, &mut string)?;
    Some(string)
}

impl Rest for Owned {
    fn forget(&mut self) {
        *self = Self::default();
    }

    fn query_text(&mut self, text: &[u8]) -> Option<()> {
        self.query_text = string(text)?;
        Some(())
    }

    fn error_message(&mut self, text: &[u8]) -> Option<()> {
        self.error_message = Some(string(text)?);
        Some(())
    }

    fn tags(&mut self) {}

    fn tag(&mut self, text: &[u8]) -> Option<()> {
        self.tags.push(string(text)?);
        Some(())
    }

    fn started_at(&mut self, text: &[u8]) -> Option<()> {
        self.started_at = EventTime::parse_utc(text)?;
        Some(())
    }
}

/// All of a record.
pub(super) fn metric(bytes: &[u8]) -> Option<QueryMetric> {
    let mut rest = Owned::default();
    let Fields { id, workspace_id, service_id, status, duration_ms, rows_affected, completed_at } =
        parse(bytes, &mut rest)?;
    let Owned { query_text, error_message, started_at, tags } = rest;
    Some(QueryMetric {
        id,
        workspace_id,
        service_id,
        query_text,
        status,
        duration_ms,
        rows_affected,
        error_message,
        started_at,
        completed_at,
        tags,
    })
}

/// `None` where the bytes are of another form.
pub fn parse(bytes: &[u8], rest: &mut impl Rest) -> Option<Fields> {
    if let Some(read) = usual(bytes, rest) {
        return Some(read);
    }
    rest.forget();
    let read = in_any_order(bytes, rest);
    if read.is_none() {
        rest.forget();
    }
    read
}

/// As serde writes it: without a space, and in the order of [`USUAL`].
fn usual(bytes: &[u8], rest: &mut impl Rest) -> Option<Fields> {
    let mut reader = Reader::new(bytes);
    let mut found = Found::default();
    found.read_usual::<0>(&mut reader, rest)?;
    found.read_usual::<1>(&mut reader, rest)?;
    found.read_usual::<2>(&mut reader, rest)?;
    found.read_usual::<3>(&mut reader, rest)?;
    found.read_usual::<4>(&mut reader, rest)?;
    found.read_usual::<5>(&mut reader, rest)?;
    found.read_usual::<6>(&mut reader, rest)?;
    found.read_usual::<7>(&mut reader, rest)?;
    found.read_usual::<8>(&mut reader, rest)?;
    found.read_usual::<9>(&mut reader, rest)?;
    found.read_usual::<10>(&mut reader, rest)?;
    if reader.take(b"}") && reader.reaches_end() { found.all() } else { None }
}

fn in_any_order(bytes: &[u8], rest: &mut impl Rest) -> Option<Fields> {
    let mut reader = Reader::new(bytes);
    let mut found = Found::default();
    let (mut seen, mut likely) = (0_u16, 0);
    reader.expect(b'{')?;
    loop {
        reader.expect(b'"')?;
        let field = name(&mut reader, likely)?;
        reader.expect(b':')?;
        reader.space();
        found.read(field, &mut reader, rest)?;
        if seen & (1 << field) != 0 {
            return None;
        }
        seen |= 1 << field;
        likely = field + 1;
        match reader.next()? {
            b',' => reader.space(),
            b'}' => break,
            _ => return None,
        }
    }
    if !reader.reaches_end() || seen | OPTIONAL != ALL {
        return None;
    }
    found.all()
}

/// Which field comes; `likely` is tried first. The opening quote is read already.
fn name(reader: &mut Reader<'_>, likely: usize) -> Option<usize> {
    // Spelled out, so that each is compared by an instruction or two.
    let found = match likely {
        0 => reader.take(FIELDS[0]),
        1 => reader.take(FIELDS[1]),
        2 => reader.take(FIELDS[2]),
        3 => reader.take(FIELDS[3]),
        4 => reader.take(FIELDS[4]),
        5 => reader.take(FIELDS[5]),
        6 => reader.take(FIELDS[6]),
        7 => reader.take(FIELDS[7]),
        8 => reader.take(FIELDS[8]),
        9 => reader.take(FIELDS[9]),
        10 => reader.take(FIELDS[10]),
        _ => false,
    };
    if found {
        return Some(likely);
    }
    FIELDS.iter().position(|name| reader.take(name))
}

#[derive(Default)]
struct Found {
    id: Uuid,
    workspace: Uuid,
    service: Uuid,
    status: Option<Status>,
    duration_ms: Option<f64>,
    rows_affected: Option<i64>,
    completed_at: Option<EventTime>,
}

impl Found {
    /// The next field, which may not be there if it is optional.
    #[inline(always)]
    fn read_usual<const FIELD: usize>(
        &mut self,
        reader: &mut Reader<'_>,
        rest: &mut impl Rest,
    ) -> Option<()> {
        if reader.take(USUAL[FIELD]) {
            self.read(FIELD, reader, rest)
        } else {
            (OPTIONAL & (1 << FIELD) != 0).then_some(())
        }
    }

    #[inline(always)]
    fn read(&mut self, field: usize, reader: &mut Reader<'_>, rest: &mut impl Rest) -> Option<()> {
        match field {
            0 => self.id = reader.uuid()?,
            1 => self.workspace = reader.uuid()?,
            2 => self.service = reader.uuid()?,
            3 => rest.query_text(reader.string(QUERY_TEXT_BYTES_MAX)?)?,
            4 => self.status = Some(reader.status()?),
            5 if !reader.null() => {
                self.duration_ms = Some(reader.number().filter(|ms| *ms <= DURATION_MS_MAX)?);
            }
            6 if !reader.null() => self.rows_affected = Some(reader.count()?),
            7 if !reader.null() => rest.error_message(reader.string(ERROR_MESSAGE_BYTES_MAX)?)?,
            8 => rest.started_at(reader.time_text()?)?,
            9 => self.completed_at = Some(reader.time()?),
            10 => {
                rest.tags();
                reader.strings((TAGS_MAX, TAG_BYTES_MAX), |tag| rest.tag(tag))?;
            }
            _ => {}
        }
        Some(())
    }

    /// `None` where something is missing that is required.
    #[inline(always)]
    fn all(self) -> Option<Fields> {
        Some(Fields {
            id: RecordId(self.id),
            workspace_id: WorkspaceId(self.workspace),
            service_id: ServiceId(self.service),
            status: self.status?,
            duration_ms: self.duration_ms,
            rows_affected: self.rows_affected,
            completed_at: self.completed_at?,
        })
    }
}

#[cfg(test)]
mod tests;
