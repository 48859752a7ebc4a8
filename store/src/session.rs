//! What belongs to one client although all share one backend session: the names of its prepared statements, the
//! settings it wants and the channels it listens on. Pure: messages in, messages out.

mod listen;
mod settings;
#[cfg(test)]
mod tests;

pub use listen::{Listening, quote_identifier};
use settings::Lock;
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
    /// The client took an advisory lock of its session. As all have one session, it would exclude nobody: so it keeps
    /// the backend until it gives the lock back.
    pub locked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Statement {
    /// In our name for it.
    number: u64,
    lock: Option<Lock>,
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
            locked: false,
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
                self.lock(Lock::of(sql));
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
    }

    pub fn has_statements(&self) -> bool {
        !self.statements.is_empty()
    }

    /// Closes everything that the client left in the backend.
    pub fn close_all(&mut self, out: &mut BytesMut) {
        for (_, statement) in std::mem::take(&mut self.statements) {
            put_close(out, self.wire_name(statement.number).as_bytes());
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
        if let Some(old) = self.statements.remove(name) {
            put_close(out, self.wire_name(old.number).as_bytes());
            exchange.sent_own_close();
        }
        if self.statements.len() >= self.statements_max {
            return Err(SessionError::Statements(self.statements_max));
        }
        self.next += 1;
        self.statements.insert(name.to_vec(), Statement { number: self.next, lock: Lock::of(sql) });
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
        self.lock(self.statements.get(name).and_then(|statement| statement.lock));
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
            self.statements.remove(name);
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

    fn lock(&mut self, lock: Option<Lock>) {
        self.locked = lock.map_or(self.locked, |lock| lock == Lock::Taken);
    }

    /// Notes what only the text of a query shows.
    fn read(&mut self, sql: &[u8]) {
        self.changes_settings |= settings::changes_settings(sql);
        self.listening.follow(sql);
    }
}
