//! The channels that a client listens on, read from its SQL, as the one backend session listens for all clients.

use std::collections::BTreeSet;

/// More are not followed; nobody needs them.
const CHANNELS_MAX: usize = 1000;

#[derive(Debug, Default)]
pub struct Listening(BTreeSet<String>);

impl Listening {
    /// Follows `LISTEN` and `UNLISTEN` wherever a statement of `sql` begins with one.
    pub fn follow(&mut self, sql: &[u8]) {
        let sql = &sql[..sql.len().min(super::settings::SCANNED)];
        if !contains(sql, b"listen") {
            return;
        }
        for statement in String::from_utf8_lossy(sql).split(';') {
            let statement = statement.trim();
            let (word, rest) = statement.split_once(char::is_whitespace).unwrap_or((statement, ""));
            if word.eq_ignore_ascii_case("listen") && self.0.len() < CHANNELS_MAX {
                self.0.extend(identifier(rest));
            } else if word.eq_ignore_ascii_case("unlisten") {
                match rest.trim() {
                    "*" => self.0.clear(),
                    rest => identifier(rest).into_iter().for_each(|channel| {
                        self.0.remove(&channel);
                    }),
                }
            }
        }
    }

    pub fn contains(&self, channel: &str) -> bool {
        self.0.contains(channel)
    }

    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As SQL reads a name: in quotes as it stands, else in small letters.
fn identifier(text: &str) -> Option<String> {
    let text = text.trim();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|letter: char| letter.is_whitespace()).unwrap_or(text.len());
        return Some(text[..end].to_ascii_lowercase()).filter(|name| !name.is_empty());
    };
    let end = quoted.replace("\"\"", "\0\0").find('"')?;
    Some(quoted[..end].replace("\"\"", "\""))
}

/// For SQL that the store itself writes.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether `word`, in small letters, is anywhere in the text.
pub fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}
