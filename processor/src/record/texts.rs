//! The strings of many records, one behind the other: two allocations instead of one each.

use millrace_schemas::metric::quick::unescape;

#[derive(Clone, Debug, Default)]
pub struct Texts {
    bytes: String,
    /// Where each ends.
    ends: Vec<usize>,
}

/// The strings of one record among [`Texts`]: the numbers of its query text, its error message and the first of its tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    pub(super) query_text: usize,
    pub(super) error_message: Option<usize>,
    pub(super) first_tag: usize,
    pub(super) tags: usize,
}

impl Texts {
    /// What they take up.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + size_of_val(self.ends.as_slice())
    }

    /// What they can take up before more memory is needed.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    pub fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    pub fn clear(&mut self) {
        self.truncate(0);
    }

    pub fn query_text(&self, strings: Strings) -> &str {
        self.get(strings.query_text)
    }

    pub fn error_message(&self, strings: Strings) -> Option<&str> {
        strings.error_message.map(|number| self.get(number))
    }

    pub fn tags(&self, strings: Strings) -> impl Iterator<Item = &str> {
        (strings.first_tag..strings.first_tag + strings.tags).map(|number| self.get(number))
    }

    /// Takes over the strings of a record.
    pub fn copy(&mut self, from: &Self, strings: Strings) -> Strings {
        let query_text = self.push(from.query_text(strings));
        let error_message = from.error_message(strings).map(|text| self.push(text));
        let first_tag = self.len();
        for tag in from.tags(strings) {
            self.push(tag);
        }
        Strings { query_text, error_message, first_tag, tags: strings.tags }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Forgets all but the first so many.
    pub(super) fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// Its number.
    pub(super) fn push(&mut self, text: &str) -> usize {
        self.bytes.push_str(text);
        self.end()
    }

    /// The same of one that stands in JSON, as [`unescape`] reads it.
    pub(super) fn push_json(&mut self, text: &[u8]) -> Option<usize> {
        unescape(text, &mut self.bytes)?;
        Some(self.end())
    }

    fn end(&mut self) -> usize {
        self.ends.push(self.bytes.len());
        self.ends.len() - 1
    }

    fn get(&self, number: usize) -> &str {
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin..self.ends[number]]
    }
}
