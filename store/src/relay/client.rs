//! One connection, from its greeting to its end: what it may do next, and what is done about what happens to it.

mod leave;
mod locks;
mod patience;

use super::{end::End, handshake::Greeted, outgoing::Outgoing};
use crate::{
    backend::BackendError,
    exchange::{Exchange, Verdict},
    hub::{FULL, Hub, News},
    schedule::Priority,
    session::{Lock, Session, SessionError, quote_identifier},
    turn::{Turn, Waiting},
    wire::{self, Answer, Frame},
};
use bytes::BytesMut;
use std::{future::pending, io, sync::Arc, time::Duration};
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};

/// Bytes of requests that are read ahead.
const AHEAD_MAX: usize = 1 << 20;
/// Bytes of an unfinished unit of requests for which the backend is asked already.
const UNIT_MAX: usize = 256 << 10;

#[derive(Debug)]
enum Hold {
    Nothing,
    Waiting { place: Waiting, since: Instant },
    Turn(Turn),
}

enum Event {
    Socket,
    Granted(Option<Turn>),
    Pipe,
    News(Result<News, RecvError>),
    Late,
}

#[derive(Debug)]
pub struct Client {
    hub: Arc<Hub>,
    id: u32,
    stream: UnixStream,
    inbound: BytesMut,
    outgoing: Outgoing,
    session: Session,
    exchange: Exchange,
    /// Translated requests that the backend hasn't got.
    ahead: BytesMut,
    /// They hold a whole unit: something that will be answered.
    unit: bool,
    hold: Hold,
    news: broadcast::Receiver<News>,
    listen_again: bool,
    draining: bool,
    /// It said good-bye: what it asked before is still done.
    leaving: bool,
    statements_dropped: u64,
    /// When a message last came from the client, or anything went to it.
    active: Instant,
    /// For how long this transaction has held the backend up already by not reading, and since when it does.
    stalled: Duration,
    stalled_since: Option<Instant>,
}

impl Client {
    pub fn new(hub: Arc<Hub>, greeted: Greeted) -> Self {
        let Greeted { stream, inbound, id, wanted } = greeted;
        Self {
            id,
            stream,
            inbound,
            outgoing: Outgoing::default(),
            session: Session::new(id, hub.settings.limits.statements, wanted),
            exchange: Exchange::default(),
            ahead: BytesMut::new(),
            unit: false,
            hold: Hold::Nothing,
            news: hub.news.subscribe(),
            listen_again: false,
            draining: false,
            leaving: false,
            statements_dropped: hub.statements_dropped(),
            active: Instant::now(),
            stalled: Duration::ZERO,
            stalled_since: None,
            hub,
        }
    }

    pub async fn serve(mut self) {
        let end = loop {
            if let Err(end) = self.step().await {
                break end;
            }
        };
        self.leave(end).await;
    }

    async fn step(&mut self) -> Result<(), End> {
        self.advance()?;
        if self.look_for_locks().await? {
            self.advance()?;
        }
        self.write()?;
        match self.event().await? {
            Event::Socket => self.read(),
            Event::Granted(turn) => self.granted(turn).await,
            Event::Pipe => Ok(()),
            Event::News(news) => self.news(news),
            Event::Late => Err(self.late()),
        }
    }

    /// Does everything that needs no waiting.
    fn advance(&mut self) -> Result<(), End> {
        self.translate()?;
        self.exchange_with_backend()?;
        self.note_stall();
        if self.leaving && self.is_done() {
            return Err(End::Done);
        }
        if matches!(self.hold, Hold::Nothing) {
            if self.draining {
                return Err(End::fatal("57P01", "terminating connection because the store closes"));
            }
            if self.unit || self.ahead.len() > UNIT_MAX || self.listen_again {
                let place = self.hub.turns.join(Priority::Client);
                let place = place.map_err(|error| End::fatal("53300", error.to_string()))?;
                self.hold = Hold::Waiting { place, since: Instant::now() };
            }
        }
        Ok(())
    }

    fn reads(&self) -> bool {
        self.ahead.len() < AHEAD_MAX && !self.leaving
    }

    fn is_done(&self) -> bool {
        match &self.hold {
            Hold::Nothing => !self.unit,
            Hold::Waiting { .. } => false,
            Hold::Turn(turn) => self.ahead.is_empty() && turn.pipe.is_idle(),
        }
    }

    /// Turns what the client sent into what the backend shall read.
    fn translate(&mut self) -> Result<(), End> {
        while self.reads() {
            let frame = wire::next_frame(&mut self.inbound, self.hub.settings.limits.message_bytes);
            let Some(frame) = frame.map_err(SessionError::from)? else { break };
            let alone = self.ahead.is_empty() && matches!(self.hold, Hold::Nothing);
            match frame.tag() {
                b'X' => self.leaving = true,
                // Nothing was asked: the answer is known.
                b'S' if alone => wire::ready(self.outgoing.buffer()),
                // The rest of a copy that failed.
                b'd' | b'c' | b'f' if alone => {}
                tag => {
                    self.session.translate(&frame, &mut self.exchange, &mut self.ahead)?;
                    // Neither parts of a message nor a flush keep a transaction that idles.
                    if tag != b'H' {
                        self.active = Instant::now();
                    }
                    self.unit |= matches!(tag, b'S' | b'Q' | b'H' | b'F');
                }
            }
        }
        Ok(())
    }

    /// Gives the backend what it may have and takes what it says, within the limits of both.
    fn exchange_with_backend(&mut self) -> Result<(), End> {
        while let Hold::Turn(turn) = &mut self.hold {
            turn.pipe.offer(&mut self.ahead);
            self.unit &= !self.ahead.is_empty();
            if self.outgoing.len() >= self.hub.settings.limits.answer_bytes {
                return Ok(());
            }
            match turn.next_frame() {
                Ok(Some(frame)) => self.answer(&frame),
                Ok(None) => return Ok(()),
                Err(_) => return Err(End::dead()),
            }
        }
        Ok(())
    }

    fn answer(&mut self, frame: &Frame) {
        let Hold::Turn(turn) = &mut self.hold else { return };
        let answer = Answer::of(frame);
        let verdict = self.exchange.answered(&answer);
        self.session.failed |= answer == Answer::Failed;
        turn.note(&answer);
        match &answer {
            Answer::Setting { name, value } => {
                turn.applied.reported(name, value, &mut self.session.wanted);
            }
            Answer::Done(tag) => self.done(tag),
            Answer::Failed => self.hub.note_error(frame),
            Answer::Notification { channel } => {
                self.hub.tell(News::Notification { channel: channel.clone(), frame: frame.clone() });
                return;
            }
            _ => {}
        }
        if verdict == Verdict::Forward {
            self.outgoing.buffer().extend_from_slice(frame.bytes());
        }
        if self.exchange.is_over() {
            self.session.settled();
            if self.session.lock == Lock::None {
                self.release();
            }
        }
    }

    /// Commands whose effect reaches beyond this client.
    fn done(&mut self, tag: &str) {
        let Hold::Turn(turn) = &mut self.hold else { return };
        if matches!(tag, "SET" | "RESET" | "DISCARD ALL") {
            turn.applied.changed(self.id);
        }
        if tag == "DISCARD ALL" && self.session.lock == Lock::Held {
            self.session.lock = Lock::Named;
        }
        if matches!(tag, "UNLISTEN" | "DISCARD ALL") {
            self.hub.tell(News::ListenAgain);
        }
        if matches!(tag, "DEALLOCATE ALL" | "DISCARD ALL") {
            self.session.forget_statements();
            self.statements_dropped = self.hub.drop_statements();
        }
    }

    /// The transaction is over: the next one's turn.
    fn release(&mut self) {
        if let Hold::Turn(turn) = &mut self.hold {
            if std::mem::take(&mut self.session.changes_settings) {
                turn.applied.changed(self.id);
            }
            turn.unsettled = false;
        }
        self.hold = Hold::Nothing;
        self.stalled = Duration::ZERO;
        self.stalled_since = None;
    }

    async fn granted(&mut self, turn: Option<Turn>) -> Result<(), End> {
        let Some(mut turn) = turn else { return Err(End::dead()) };
        self.hold = Hold::Nothing;
        self.prepare(&mut turn).await.map_err(|error| match error {
            BackendError::Dead => End::dead(),
            BackendError::Refused { .. } => End::fatal("57P01", error.to_string()),
        })?;
        self.active = Instant::now();
        if self.unit || !self.exchange.is_over() {
            turn.unsettled = true;
            self.hold = Hold::Turn(turn);
        }
        let lost = self.statements_dropped != self.hub.statements_dropped();
        if lost && self.session.has_statements() {
            return Err(End::fatal(
                "57P01",
                "another client dropped the prepared statements of all: connect again",
            ));
        }
        Ok(())
    }

    /// Makes the shared session this client's.
    async fn prepare(&mut self, turn: &mut Turn) -> Result<(), BackendError> {
        self.hub.settle(turn).await?;
        turn.suit(Some(self.id), &self.session.wanted).await?;
        if std::mem::take(&mut self.listen_again) {
            let sql: String = self
                .session
                .listening
                .channels()
                .map(|channel| format!("LISTEN {};", quote_identifier(channel)))
                .collect();
            turn.run(&sql).await?;
        }
        Ok(())
    }

    fn news(&mut self, news: Result<News, RecvError>) -> Result<(), End> {
        match news {
            Ok(News::Notification { channel, frame }) => {
                if self.session.listening.contains(&channel) {
                    self.outgoing.buffer().extend_from_slice(frame.bytes());
                }
            }
            Ok(News::ListenAgain) => self.listen_again = !self.session.listening.is_empty(),
            Ok(News::Full) => return Err(End::fatal("53100", FULL)),
            Ok(News::Drain) => self.draining = true,
            Ok(News::End { reason }) => return Err(End::fatal("57P01", reason)),
            Err(RecvError::Lagged(missed)) if !self.session.listening.is_empty() => {
                return Err(End::fatal("53400", format!("{missed} notifications were missed: read faster")));
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err(End::dead()),
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), End> {
        if !self.reads() {
            return Ok(());
        }
        match self.stream.try_read_buf(&mut self.inbound) {
            Ok(0) => return Err(End::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), End> {
        while !self.outgoing.is_empty() {
            match self.stream.try_write(self.outgoing.bytes()) {
                Ok(count) => {
                    self.outgoing.sent(count);
                    self.active = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn event(&mut self) -> Result<Event, End> {
        let deadline = self.deadline();
        let reads = self.reads();
        let interest = match (reads, !self.outgoing.is_empty()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let Self { hold, stream, news, .. } = self;
        let socket = async {
            match interest {
                Some(interest) => stream.ready(interest).await.map(|_| Event::Socket),
                None => pending().await,
            }
        };
        let backend = async {
            match hold {
                Hold::Nothing => pending().await,
                Hold::Waiting { place, .. } => Event::Granted(place.turn().await),
                Hold::Turn(turn) => {
                    turn.pipe.changed().await;
                    Event::Pipe
                }
            }
        };
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        Ok(tokio::select! {
            event = backend => event,
            event = socket => event?,
            news = news.recv() => Event::News(news),
            () = late => Event::Late,
        })
    }
}
