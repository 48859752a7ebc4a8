//! As little of a WebSocket client (RFC 6455) as reading a feed of text needs.

use anyhow::{Context, bail, ensure};
use std::{net::SocketAddr, ops::Range};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CHUNK_BYTES: usize = 64 * 1024;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
/// A pong of nothing; a client's frames have a mask.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

pub struct WebSocket {
    stream: TcpStream,
    received: Vec<u8>,
    /// Bytes of `received` that have been read.
    read: usize,
}

struct Frame {
    kind: u8,
    payload: Range<usize>,
}

impl WebSocket {
    pub async fn open(address: SocketAddr, path: &str, key: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWlsbHJhY2UgYmVuY2htYXJrIQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut socket = Self { stream, received: Vec::with_capacity(CHUNK_BYTES), read: 0 };
        let end = loop {
            socket.receive().await?;
            if let Some(end) = socket.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
        };
        let head = String::from_utf8_lossy(&socket.received[..end]);
        ensure!(head.starts_with("HTTP/1.1 101 "), "the socket was refused: {head}");
        socket.read = end + 4;
        Ok(socket)
    }

    /// The next text.
    pub async fn next(&mut self) -> anyhow::Result<&[u8]> {
        loop {
            let Some(frame) = Frame::read(&self.received, self.read) else {
                self.receive().await?;
                continue;
            };
            self.read = frame.payload.end;
            match frame.kind {
                TEXT => return Ok(&self.received[frame.payload]),
                PING => self.stream.write_all(&PONG).await.context("answering a ping")?,
                CLOSE => bail!("it was closed"),
                other => bail!("a frame of the unknown kind {other:#x}"),
            }
        }
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        self.received.drain(..self.read);
        self.read = 0;
        self.received.reserve(CHUNK_BYTES);
        let bytes = self.stream.read_buf(&mut self.received).await.context("receiving")?;
        ensure!(bytes > 0, "the connection was closed");
        Ok(())
    }
}

impl Frame {
    /// The frame that begins there; none where it is not whole.
    fn read(received: &[u8], start: usize) -> Option<Self> {
        let [kind, short, rest @ ..] = received.get(start..)? else { return None };
        let (length, head) = match short {
            126 => (u16::from_be_bytes(*rest.first_chunk()?).into(), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
            length => (u64::from(*length), 2),
        };
        let payload = start + head..start + head + usize::try_from(length).ok()?;
        (payload.end <= received.len()).then_some(Self { kind: *kind, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_any_length_are_read_when_they_are_whole() {
        for length in [0_usize, 125, 126, 65_535, 65_536] {
            let text = vec![b'x'; length];
            let mut bytes = vec![b'?', TEXT];
            match length {
                0..=125 => bytes.push(u8::try_from(length).expect("short")),
                126..=65_535 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(length).expect("of two bytes").to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(&text);
            let frame = Frame::read(&bytes, 1).expect("it is whole");
            assert_eq!((frame.kind, &bytes[frame.payload]), (TEXT, text.as_slice()));
            assert!(Frame::read(&bytes[..bytes.len() - 1], 1).is_none(), "{length}");
        }
    }
}
