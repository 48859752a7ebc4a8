//! Frames in any pieces, and first messages good and bad.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    put_frame(&mut out, tag, |out| out.put_slice(body));
    out.to_vec()
}

fn first_message(code: u32, rest: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u32(u32::try_from(rest.len() + 8).unwrap());
    out.put_u32(code);
    out.put_slice(rest);
    out
}

proptest! {
    /// However the bytes arrive, the same messages come out, and nothing is lost.
    #[test]
    fn any_chunking_gives_the_same_messages(
        messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..50)), 0..20),
        cuts in prop::collection::vec(1usize..30, 0..100),
    ) {
        let all: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        let (mut buffer, mut found, mut rest) = (BytesMut::new(), Vec::new(), &all[..]);
        let mut cuts = cuts.into_iter();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
            buffer.extend_from_slice(piece);
            rest = after;
            while let Some(frame) = next_frame(&mut buffer, 1000).unwrap() {
                found.push((frame.tag(), frame.body().to_vec()));
            }
        }
        prop_assert_eq!(found, messages);
        prop_assert!(buffer.is_empty());
    }

    /// Rubbish gives an error or nothing, never a panic.
    #[test]
    fn rubbish_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = next_frame(&mut buffer, 1000) {
            Answer::of(&frame);
            field(&frame, b'M');
        }
        prop_assert!(startup(&mut BytesMut::from(&bytes[..])).is_ok_and(|found| found.is_none()) || bytes.len() >= 4);
        parse_options(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn impossible_lengths_are_refused() {
    let mut buffer = BytesMut::from(&b"Q\0\0\0\x03"[..]);
    assert_eq!(next_frame(&mut buffer, 100), Err(FrameError::Length { tag: 'Q', length: 3 }));
    let mut buffer = BytesMut::from(&b"Q\0\0\x01\0"[..]);
    assert_eq!(next_frame(&mut buffer, 100), Err(FrameError::TooLong { length: 257, limit: 100 }));
}

#[test]
fn first_messages() {
    let parameters = BTreeMap::from([("user".to_owned(), "me".to_owned())]);
    let mut buffer = first_message(3 << 16, b"user\0me\0\0");
    assert_eq!(startup(&mut buffer), Ok(Some(Startup::Session { minor: 0, parameters })));
    assert!(buffer.is_empty());
    assert_eq!(startup(&mut first_message(80_877_103, b"")), Ok(Some(Startup::Encryption)));
    assert_eq!(startup(&mut first_message(80_877_104, b"")), Ok(Some(Startup::Encryption)));
    assert_eq!(startup(&mut first_message(80_877_102, &[0; 8])), Ok(Some(Startup::Cancel)));
    assert_eq!(startup(&mut first_message(2 << 16, b"")), Err(StartupError::Version { major: 2, minor: 0 }));
    assert_eq!(startup(&mut first_message(3 << 16, b"user\0me")), Err(StartupError::Malformed));
    assert_eq!(startup(&mut BytesMut::from(&b"GET / HTTP/1.1"[..])), Err(StartupError::Length(0x4745_5420)));
}

#[test]
fn options_of_the_command_line() {
    let found = parse_options("-c a=1 -cb=2 --c-d=3 -c e=one\\ two").unwrap();
    let found: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(found, [("a", "1"), ("b", "2"), ("c_d", "3"), ("e", "one two")]);
    assert_eq!(parse_options("-f"), None);
}
