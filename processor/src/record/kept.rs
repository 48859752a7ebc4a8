//! The fields that only the archive needs.

use super::{Strings, Texts};
use millrace_schemas::{EventTime, metric::quick::Rest};

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
