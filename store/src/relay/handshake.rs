//! The beginning of a connection: questions for encryption, the first message, and the greeting.

use crate::{
    backend::BackendError,
    hub::{FULL, Hub, TurnError},
    schedule::Priority,
    session::Wanted,
    wire::{self, Startup, StartupError},
};
use bytes::BytesMut;
use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    io,
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// The newest version that is spoken: 3.2.
const VERSION: u32 = 3 << 16 | 2;
const DATABASE: &str = "postgres";

/// A connection that was let in.
#[derive(Debug)]
pub struct Greeted {
    pub stream: UnixStream,
    /// What it sent after its first message.
    pub inbound: BytesMut,
    pub id: u32,
    pub wanted: Wanted,
}

/// Why a connection isn't let in.
struct Refusal {
    code: String,
    message: String,
}

impl Refusal {
    fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// Lets a connection in; none where it only wished to cancel, was refused or went away.
pub async fn greet(hub: &Arc<Hub>, mut stream: UnixStream) -> io::Result<Option<Greeted>> {
    let mut inbound = BytesMut::new();
    let first = timeout(hub.settings.times.greeting, first_message(&mut stream, &mut inbound));
    let (minor, parameters) = match first.await {
        Ok(Ok(Startup::Session { minor, parameters })) => (minor, parameters),
        Ok(Ok(_)) => return Ok(None), // nothing can stop a statement
        Ok(Err(First::Malformed(error))) => return refuse(stream, "08P01", &error.to_string()).await,
        Ok(Err(First::Io(error))) => return Err(error),
        Err(_) => return Ok(None),
    };
    let mut out = BytesMut::new();
    let unknown: Vec<String> = parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    if minor > (VERSION & 0xffff) || !unknown.is_empty() {
        wire::negotiate(&mut out, VERSION, &unknown);
    }
    match admit(hub, parameters).await {
        Ok((wanted, reported)) => {
            let id = hub.next_client();
            wire::greeting(&mut out, id, secret(), &reported);
            stream.write_all(&out).await?;
            Ok(Some(Greeted { stream, inbound, id, wanted }))
        }
        Err(refusal) => refuse(stream, &refusal.code, &refusal.message).await,
    }
}

enum First {
    Malformed(StartupError),
    Io(io::Error),
}

async fn first_message(stream: &mut UnixStream, inbound: &mut BytesMut) -> Result<Startup, First> {
    loop {
        match wire::startup(inbound).map_err(First::Malformed)? {
            Some(Startup::Encryption) => stream.write_all(b"N").await.map_err(First::Io)?,
            Some(startup) => return Ok(startup),
            None if stream.read_buf(inbound).await.map_err(First::Io)? == 0 => {
                return Err(First::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            None => {}
        }
    }
}

async fn refuse(mut stream: UnixStream, code: &str, message: &str) -> io::Result<Option<Greeted>> {
    let mut out = BytesMut::new();
    wire::fatal(&mut out, code, message);
    stream.write_all(&out).await?;
    stream.shutdown().await?;
    Ok(None)
}

async fn admit(
    hub: &Arc<Hub>,
    parameters: BTreeMap<String, String>,
) -> Result<(Wanted, BTreeMap<String, String>), Refusal> {
    if hub.closing.is_cancelled() {
        return Err(Refusal::new("57P03", "the store closes"));
    }
    if hub.is_full() {
        return Err(Refusal::new("53100", FULL));
    }
    if hub.clients.len() > hub.settings.limits.connections {
        return Err(Refusal::new("53300", "sorry, too many clients already"));
    }
    let wanted = wanted(parameters)?;
    if let Some(reported) = hub.greeting(&wanted) {
        return Ok((wanted, reported));
    }
    let reported = try_settings(hub, &wanted).await?;
    hub.remember_greeting(wanted.clone(), reported.clone());
    Ok((wanted, reported))
}

/// The settings in a first message. Every role is the owner here, so that its name doesn't matter.
fn wanted(parameters: BTreeMap<String, String>) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted::new();
    let user = parameters.get("user").cloned();
    for (name, value) in parameters {
        match name.as_str() {
            "user" => {}
            "database" if value == DATABASE || Some(&value) == user.as_ref() => {}
            "database" => {
                let message = format!("database \"{value}\" does not exist: the only one is \"{DATABASE}\"");
                return Err(Refusal::new("3D000", message));
            }
            "replication" if ["false", "off", "no", "0"].contains(&value.as_str()) => {}
            "replication" => return Err(Refusal::new("0A000", "the embedded database can't be replicated")),
            "options" => {
                let options = wire::parse_options(&value)
                    .ok_or_else(|| Refusal::new("22023", format!("options that aren't settings: {value}")))?;
                wanted.extend(options.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)));
            }
            _ if name.starts_with("_pq_.") => {}
            _ => {
                wanted.entry(name.to_ascii_lowercase()).or_insert(value);
            }
        }
    }
    Ok(wanted)
}

/// Lets the backend judge settings that nobody had before.
async fn try_settings(hub: &Arc<Hub>, wanted: &Wanted) -> Result<BTreeMap<String, String>, Refusal> {
    let attempt = async {
        let mut turn = hub.own_turn(Priority::Client).await?;
        turn.suit(None, wanted).await?;
        Ok::<_, TurnError>(turn.reported.clone())
    };
    match timeout(hub.settings.times.waiting, attempt).await {
        Ok(Ok(reported)) => Ok(reported),
        Ok(Err(TurnError::Backend(BackendError::Refused { code, message }))) => {
            Err(Refusal { code, message })
        }
        Ok(Err(error @ TurnError::Full(_))) => Err(Refusal::new("53300", error.to_string())),
        Ok(Err(error)) => Err(Refusal::new("57P03", error.to_string())),
        Err(_) => Err(Refusal::new("57P03", "the database was busy for too long")),
    }
}

/// As random as the seeds of hash maps; it protects nothing, as a cancellation has no effect.
fn secret() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default()
}
