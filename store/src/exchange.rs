//! Who owes what: follows one client's requests and the backend's answers, and says when the backend is free again.
//! A pure state machine: messages in, verdicts out.

use crate::wire::Answer;
use std::collections::VecDeque;

/// What was sent and isn't answered in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Messages of the extended protocol after which no `Sync` came yet.
    Extended,
    /// A `Close`; `ours` has an answer that the client didn't ask for.
    Close {
        ours: bool,
    },
    /// `CopyDone` or `CopyFail`.
    CopyEnd,
    Sync,
    /// A simple query or a function call.
    Query,
}

/// What to do with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Forward,
    /// It answers a message that the relay put in.
    Swallow,
}

/// One client's dialogue with the backend, from its first message to the readiness that ends its transaction.
#[derive(Debug)]
pub struct Exchange {
    sent: VecDeque<Sent>,
    status: u8,
    /// The backend reads rows until `CopyDone` or `CopyFail`, and skips `Sync` meanwhile.
    copying: bool,
}

impl Default for Exchange {
    fn default() -> Self {
        Self { sent: VecDeque::new(), status: b'I', copying: false }
    }
}

impl Exchange {
    /// A message with this tag goes to the backend.
    pub fn sent(&mut self, tag: u8) {
        match tag {
            b'S' if self.copying => {}
            b'S' => self.sent.push_back(Sent::Sync),
            b'Q' | b'F' => self.sent.push_back(Sent::Query),
            b'c' | b'f' => {
                self.copying = false;
                self.sent.push_back(Sent::CopyEnd);
            }
            b'C' => self.sent.push_back(Sent::Close { ours: false }),
            b'd' => {}
            b'H' if self.copying => {}
            _ if self.sent.back() == Some(&Sent::Extended) => {}
            _ => self.sent.push_back(Sent::Extended),
        }
    }

    /// A `Close` that the relay puts in goes to the backend.
    pub fn sent_own_close(&mut self) {
        self.sent.push_back(Sent::Close { ours: true });
    }

    /// The backend says this.
    pub fn answered(&mut self, answer: &Answer) -> Verdict {
        match answer {
            Answer::Ready(status) => self.ready(*status),
            Answer::Failed => self.failed(),
            Answer::CopyIn => self.copy_in(),
            Answer::CloseDone => return self.closed(),
            _ => {}
        }
        Verdict::Forward
    }

    /// Nothing is owed and no transaction is open: the backend may serve somebody else.
    pub fn is_over(&self) -> bool {
        self.sent.is_empty() && !self.copying && self.status == b'I'
    }

    fn ready(&mut self, status: u8) {
        self.status = status;
        self.copying = false;
        while let Some(sent) = self.sent.pop_front() {
            if matches!(sent, Sent::Sync | Sent::Query) {
                break;
            }
        }
        while self.sent.front() == Some(&Sent::CopyEnd) {
            self.sent.pop_front();
        }
    }

    /// After an error in the extended protocol the backend skips everything up to the next `Sync`.
    fn failed(&mut self) {
        self.copying = false;
        if self.sent.front() == Some(&Sent::Query) {
            return;
        }
        while self.sent.front().is_some_and(|sent| *sent != Sent::Sync) {
            self.sent.pop_front();
        }
        if self.sent.is_empty() {
            self.sent.push_back(Sent::Extended);
        }
    }

    /// `Sync`s that are under way already will be skipped by the copy, up to its end.
    fn copy_in(&mut self) {
        let end = self.sent.iter().position(|sent| *sent == Sent::CopyEnd);
        self.copying = end.is_none();
        let within = end.unwrap_or(self.sent.len());
        let mut place = 0;
        self.sent.retain(|sent| {
            place += 1;
            place > within || *sent != Sent::Sync
        });
    }

    fn closed(&mut self) -> Verdict {
        let place = self.sent.iter().position(|sent| matches!(sent, Sent::Close { .. }));
        match place.and_then(|place| self.sent.remove(place)) {
            Some(Sent::Close { ours: true }) => Verdict::Swallow,
            _ => Verdict::Forward,
        }
    }
}

#[cfg(test)]
mod tests;
