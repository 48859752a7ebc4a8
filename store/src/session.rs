//! What belongs to one client although all share one backend session: the names of its prepared statements, the
//! settings it wants and the channels it listens on. Pure: messages in, messages out.

mod listen;
mod settings;
#[cfg(test)]
mod tests;

pub use listen::{Listening, quote_identifier};
pub use settings::{Applied, Wanted};

use crate::{
    exchange::Exchange,
    wire::{Frame, FrameError, put_close, put_frame, put_text},
};
use bytes::{BufMut, BytesMut};
use std::collections::HashMap;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("messages of type {0:?} are not part of the protocol")]
    Unexpected(char),
    #[error("more than {0} prepared statements: close some")]
    Statements(usize),
}

/// A client's advisory locks of its session. As all have one session, they would exclude nobody: so it keeps the backend
/// until it gives them back.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    #[default]
    None,
    /// A statement named them: whether one is held is to be asked when it is done.
    Named,
    Held,
}

/// One client's own things.
#[derive(Debug)]
pub struct Session {
    client: u32,
    statements_max: usize,
    /// By the client's name.
    statements: HashMap<Vec<u8>, Statement>,
    next: u64,
    pub wanted: Wanted,
    pub listening: Listening,
    /// The client ran something that changes settings in a way that only its text shows.
    pub changes_settings: bool,
    pub lock: Lock,
    /// The backend refused something since [`Self::settled`], and so may have skipped a `Close`.
    pub failed: bool,
    /// Our numbers of statements whose `Close` is under way.
    closing: Vec<u64>,
    /// The same, where it may have been skipped: they are closed once more.
    left: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Statement {
    /// In our name for it.
    number: u64,
    names_locks: bool,
}

impl Session {
    pub fn new(client: u32, statements_max: usize, wanted: Wanted) -> Self {
        Self {
            client,
            statements_max,
            statements: HashMap::new(),
            next: 0,
            wanted,
            listening: Listening::default(),
            changes_settings: false,
            lock: Lock::None,
            failed: false,
            closing: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Appends what the backend shall read in place of this message, and enters it in the books.
    pub fn translate(
        &mut self,
        frame: &Frame,
        exchange: &mut Exchange,
        out: &mut BytesMut,
    ) -> Result<(), SessionError> {
        match frame.tag() {
            b'P' => self.parse(frame, exchange, out)?,
            b'B' => self.bind(frame, out)?,
            b'D' | b'C' if frame.body().first() == Some(&b'S') => self.named(frame, out)?,
            b'Q' => {
                let sql = frame.name_and_rest(0)?.0;
                self.read(sql);
                self.note_locks(settings::names_locks(sql));
                out.put_slice(frame.bytes());
            }
            b'D' | b'C' | b'E' | b'F' | b'H' | b'S' | b'd' | b'c' | b'f' => out.put_slice(frame.bytes()),
            other => return Err(SessionError::Unexpected(char::from(other))),
        }
        exchange.sent(frame.tag());
        Ok(())
    }

    /// Forgets all statements: the backend has none any more.
    pub fn forget_statements(&mut self) {
        self.statements.clear();
        self.closing.clear();
        self.left.clear();
    }

    /// Everything that was sent is answered.
    pub fn settled(&mut self) {
        if std::mem::take(&mut self.failed) {
            self.left.append(&mut self.closing);
        }
        self.closing.clear();
    }

    pub fn has_statements(&self) -> bool {
        !(self.statements.is_empty() && self.closing.is_empty() && self.left.is_empty())
    }

    /// Closes everything that the client left in the backend.
    pub fn close_all(&mut self, out: &mut BytesMut) {
        let statements = std::mem::take(&mut self.statements).into_values().map(|statement| statement.number);
        let numbers: Vec<u64> = statements.chain(self.closing.drain(..)).chain(self.left.drain(..)).collect();
        for number in numbers {
            put_close(out, self.wire_name(number).as_bytes());
        }
    }

    /// A statement of the same name is closed first: the unnamed one may be prepared again at any time, and another
    /// client may have used the backend since.
    fn parse(
        &mut self,
        frame: &Frame,
        exchange: &mut Exchange,
        out: &mut BytesMut,
    ) -> Result<(), SessionError> {
        let (name, rest) = frame.name_and_rest(0)?;
        let sql = crate::wire::split_zero(rest).map_or(&[][..], |(sql, _)| sql);
        self.read(sql);
        let old = self.statements.remove(name).map(|statement| statement.number);
        for number in std::mem::take(&mut self.left).into_iter().chain(old) {
            put_close(out, self.wire_name(number).as_bytes());
            exchange.sent_own_close();
            self.closing.push(number);
        }
        if self.statements.len() >= self.statements_max {
            return Err(SessionError::Statements(self.statements_max));
        }
        self.next += 1;
        let statement = Statement { number: self.next, names_locks: settings::names_locks(sql) };
        self.statements.insert(name.to_vec(), statement);
        let wire_name = self.wire_name(self.next);
        put_frame(out, b'P', |out| {
            put_text(out, wire_name.as_bytes());
            out.put_slice(rest);
        });
        Ok(())
    }

    fn bind(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), SessionError> {
        let (portal, rest) = frame.name_and_rest(0)?;
        let (name, _) = frame.name_and_rest(portal.len() + 1)?;
        let rest = &rest[name.len() + 1..];
        self.note_locks(self.statements.get(name).is_some_and(|statement| statement.names_locks));
        let name = self.translated(name);
        put_frame(out, b'B', |out| {
            put_text(out, portal);
            put_text(out, &name);
            out.put_slice(rest);
        });
        Ok(())
    }

    /// `Describe` and `Close` of a statement.
    fn named(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), SessionError> {
        let (name, _) = frame.name_and_rest(1)?;
        let translated = self.translated(name);
        if frame.tag() == b'C' {
            self.closing.extend(self.statements.remove(name).map(|statement| statement.number));
        }
        put_frame(out, frame.tag(), |out| {
            out.put_u8(b'S');
            put_text(out, &translated);
        });
        Ok(())
    }

    /// A name that the client never prepared stays as it is: SQL's own `PREPARE` may have made it.
    fn translated(&self, name: &[u8]) -> Vec<u8> {
        match self.statements.get(name) {
            Some(statement) => self.wire_name(statement.number).into_bytes(),
            None if name.is_empty() => self.wire_name(0).into_bytes(),
            None => name.to_vec(),
        }
    }

    /// Short, as PostgreSQL compares only the first 63 bytes.
    fn wire_name(&self, number: u64) -> String {
        format!("millrace_{:x}_{number:x}", self.client)
    }

    fn note_locks(&mut self, named: bool) {
        if named {
            self.lock = Lock::Named;
        }
    }

    /// Notes what only the text of a query shows.
    fn read(&mut self, sql: &[u8]) {
        self.changes_settings |= settings::changes_settings(sql);
        self.listening.follow(sql);
    }
}
