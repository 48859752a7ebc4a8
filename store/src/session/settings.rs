//! The settings of the shared session: what a client wants, what the session has, and the SQL between the two.

use super::listen::contains;
use std::collections::BTreeMap;

/// The settings that the backend reports by itself and that anybody may set.
const FOLLOWED: [&str; 8] = [
    "application_name",
    "client_encoding",
    "datestyle",
    "default_transaction_read_only",
    "intervalstyle",
    "search_path",
    "standard_conforming_strings",
    "timezone",
];

/// How much of a query's text is looked at.
pub(super) const SCANNED: usize = 16 * 1024;

/// A client's settings by lower-case name, where they differ from the session's first ones. They come from its start-up
/// message, and from what the backend reports while the client has it.
pub type Wanted = BTreeMap<String, String>;

/// What the backend session has at present.
#[derive(Debug, Default)]
pub struct Applied {
    settings: Wanted,
    /// A client changed something that isn't in `settings`.
    changed_by: Option<u32>,
}

impl Applied {
    /// Takes note of what the backend reports while `wanted` is served; the client goes on wanting it.
    pub fn reported(&mut self, name: &str, value: &str, wanted: &mut Wanted) {
        let name = name.to_ascii_lowercase();
        if FOLLOWED.contains(&name.as_str()) {
            wanted.insert(name.clone(), value.to_owned());
            self.settings.insert(name, value.to_owned());
        }
    }

    /// This client ran `SET` or the like.
    pub fn changed(&mut self, client: u32) {
        self.changed_by = Some(client);
    }

    /// The SQL that makes the session fit for a client; none where it fits already. Between two turns of one client
    /// its own changes stay.
    pub fn change_to(&self, client: Option<u32>, wanted: &Wanted) -> Option<String> {
        let reset = self.changed_by.is_some() && self.changed_by != client;
        let mut sql = String::new();
        if reset {
            sql.push_str("RESET SESSION AUTHORIZATION;RESET ALL;");
        }
        for name in self.settings.keys().filter(|name| !reset && !wanted.contains_key(*name)) {
            sql.push_str(&format!("RESET {};", super::quote_identifier(name)));
        }
        for (name, value) in wanted {
            if reset || self.settings.get(name) != Some(value) {
                sql.push_str(&format!("SELECT set_config({},{},false);", literal(name), literal(value)));
            }
        }
        (!sql.is_empty()).then_some(sql)
    }

    /// The SQL of [`Self::change_to`] was run.
    pub fn changed_to(&mut self, wanted: &Wanted) {
        self.changed_by = None;
        self.settings.clone_from(wanted);
    }
}

/// A text in SQL, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// Settings that change without a `SET` that the backend would confirm as such.
pub fn changes_settings(sql: &[u8]) -> bool {
    contains(&sql[..sql.len().min(SCANNED)], b"set_config")
}

/// Whether a query's text names locks that outlive its transaction, be it only in a literal.
pub(super) fn names_locks(sql: &[u8]) -> bool {
    let sql = &sql[..sql.len().min(SCANNED)];
    [&b"pg_advisory_lock"[..], b"pg_try_advisory_lock", b"pg_advisory_unlock"]
        .iter()
        .any(|name| contains(sql, name))
}
