//! The first message of a connection, which has no tag.

use super::split_zero;
use bytes::BytesMut;
use std::collections::BTreeMap;

/// More than any client sends; PostgreSQL has the same limit.
const LENGTH_MAX: usize = 10_000;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

#[derive(Debug, PartialEq, Eq)]
pub enum Startup {
    /// A question for encryption, which is to be answered with `N`.
    Encryption,
    /// A wish to end another connection's statement.
    Cancel,
    /// A session.
    Session {
        /// The minor version asked for; the major one is 3.
        minor: u32,
        /// By name, those of the protocol itself (`_pq_.…`) included.
        parameters: BTreeMap<String, String>,
    },
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    #[error("the first message gives the impossible length {0}")]
    Length(u32),
    #[error("protocol version {major}.{minor} is not spoken here; 3.0 and 3.2 are")]
    Version { major: u32, minor: u32 },
    #[error("the first message is malformed")]
    Malformed,
}

/// Cuts the first message off `buffer`, or says that it isn't there yet.
pub fn startup(buffer: &mut BytesMut) -> Result<Option<Startup>, StartupError> {
    let Some(length) = buffer.first_chunk::<4>().map(|length| u32::from_be_bytes(*length)) else {
        return Ok(None);
    };
    let whole = usize::try_from(length).unwrap_or(usize::MAX);
    if !(8..=LENGTH_MAX).contains(&whole) {
        return Err(StartupError::Length(length));
    }
    if buffer.len() < whole {
        return Ok(None);
    }
    let message = buffer.split_to(whole);
    let code = message[4..].first_chunk::<4>().map_or(0, |code| u32::from_be_bytes(*code));
    match code {
        SSL | GSS => Ok(Some(Startup::Encryption)),
        CANCEL => Ok(Some(Startup::Cancel)),
        _ if code >> 16 == 3 => session(code & 0xffff, &message[8..]).map(Some),
        _ => Err(StartupError::Version { major: code >> 16, minor: code & 0xffff }),
    }
}

fn session(minor: u32, mut rest: &[u8]) -> Result<Startup, StartupError> {
    let mut parameters = BTreeMap::new();
    loop {
        let (name, after) = split_zero(rest).ok_or(StartupError::Malformed)?;
        if name.is_empty() {
            return Ok(Startup::Session { minor, parameters });
        }
        let (value, after) = split_zero(after).ok_or(StartupError::Malformed)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::Malformed);
        parameters.insert(text(name)?, text(value)?);
        rest = after;
    }
}

/// The settings in an `options` parameter: `-c name=value` and `--name=value`, a backslash before a space that belongs
/// to a value. None where it holds anything else.
pub fn parse_options(options: &str) -> Option<Vec<(String, String)>> {
    let mut words = words(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("--") {
            Some(long) => long.replacen('-', "_", long.split('=').next()?.matches('-').count()),
            None => match word.strip_prefix("-c")? {
                "" => words.next()?,
                joined => joined.to_owned(),
            },
        };
        let (name, value) = assignment.split_once('=')?;
        settings.push((name.to_owned(), value.to_owned()));
    }
    Some(settings)
}

fn words(options: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = options.chars();
    while let Some(letter) = letters.next() {
        let last = words.len() - 1;
        match letter {
            '\\' => words[last].extend(letters.next()),
            _ if letter.is_whitespace() => words.push(String::new()),
            _ => words[last].push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
