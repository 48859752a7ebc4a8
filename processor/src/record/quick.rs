//! The fast path for records in the form that nearly every producer writes: one line of JSON, the known fields in any
//! order, ids with hyphens, times in UTC; and a faster one for the order and the spacing of serde, in which the edge writes
//! them. Both take only what is certainly valid. Whatever else there is, right or wrong, is left to the full reader, which
//! also finds the words for what is wrong.

use super::{Measured, Strings, Texts, reader::Reader};
use crate::admission::Identity;
use millrace_schemas::{
    EventTime, RecordId, ServiceId, Status, WorkspaceId,
    metric::{DURATION_MS_MAX, ERROR_MESSAGE_BYTES_MAX, QUERY_TEXT_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX},
};
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

/// What becomes of the fields that the windows don't need: they are valid JSON, and no longer than allowed.
pub(super) trait Rest {
    /// All of this record's.
    fn forget(&mut self);
    fn query_text(&mut self, text: &[u8]) -> Option<()>;
    fn error_message(&mut self, text: &[u8]) -> Option<()>;
    fn tags(&mut self);
    fn tag(&mut self, text: &[u8]) -> Option<()>;
    /// `None` if that is no time in UTC.
    fn started_at(&mut self, text: &[u8]) -> Option<()>;
}

/// Nobody needs them.
pub(super) struct Checked;

impl Rest for Checked {
    fn forget(&mut self) {}

    fn query_text(&mut self, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn error_message(&mut self, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn tags(&mut self) {}

    fn tag(&mut self, _: &[u8]) -> Option<()> {
        Some(())
    }

    fn started_at(&mut self, text: &[u8]) -> Option<()> {
        EventTime::is_utc(text).then_some(())
    }
}

/// They go to `texts`, behind those that are there.
pub(super) struct Kept<'t> {
    texts: &'t mut Texts,
    /// How many there were.
    before: usize,
    pub strings: Strings,
    pub started_at: EventTime,
}

impl<'t> Kept<'t> {
    pub(super) fn new(texts: &'t mut Texts) -> Self {
        let before = texts.len();
        Self { texts, before, strings: Strings::default(), started_at: EventTime(0) }
    }
}

impl Rest for Kept<'_> {
    fn forget(&mut self) {
        self.texts.truncate(self.before);
        self.strings = Strings::default();
    }

    fn query_text(&mut self, text: &[u8]) -> Option<()> {
        self.strings.query_text = self.texts.push_json(text)?;
        Some(())
    }

    fn error_message(&mut self, text: &[u8]) -> Option<()> {
        self.strings.error_message = Some(self.texts.push_json(text)?);
        Some(())
    }

    fn tags(&mut self) {
        self.strings.first_tag = self.texts.len();
    }

    fn tag(&mut self, text: &[u8]) -> Option<()> {
        self.texts.push_json(text)?;
        self.strings.tags += 1;
        Some(())
    }

    fn started_at(&mut self, text: &[u8]) -> Option<()> {
        self.started_at = EventTime::parse_utc(text)?;
        Some(())
    }
}

/// `None` where the bytes are of another form.
pub(super) fn parse(bytes: &[u8], rest: &mut impl Rest) -> Option<(Identity, Measured)> {
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
fn usual(bytes: &[u8], rest: &mut impl Rest) -> Option<(Identity, Measured)> {
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
    if reader.take(b"}") && reader.reaches_end() { found.split() } else { None }
}

fn in_any_order(bytes: &[u8], rest: &mut impl Rest) -> Option<(Identity, Measured)> {
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
    found.split()
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

    /// All that is required was seen.
    fn split(self) -> Option<(Identity, Measured)> {
        let status = self.status?;
        let identity = Identity {
            workspace: WorkspaceId(self.workspace),
            id: RecordId(self.id),
            completed_at: self.completed_at?,
            running: status == Status::Running,
        };
        let measured = Measured {
            service: ServiceId(self.service),
            status,
            duration_ms: self.duration_ms,
            rows_affected: self.rows_affected,
        };
        Some((identity, measured))
    }
}
