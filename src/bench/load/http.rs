//! As little of HTTP/1.1 as a load needs: one connection, a request as bytes, an answer with a length.

use anyhow::{Context, ensure};
use std::{net::SocketAddr, str::from_utf8};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CHUNK_BYTES: usize = 16 * 1024;

pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    body_bytes: usize,
}

/// Of an answer's head.
struct Head {
    status: u16,
    body_start: usize,
    body_bytes: usize,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(CHUNK_BYTES), body_bytes: 0 })
    }

    /// The answer's status, when all of it has come.
    pub async fn request(&mut self, bytes: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(bytes).await.context("sending a request")?;
        self.received.clear();
        let head = loop {
            if let Some(head) = Head::read(&self.received)? {
                break head;
            }
            self.receive().await?;
        };
        let end = head.body_start + head.body_bytes;
        while self.received.len() < end {
            self.receive().await?;
        }
        self.body_bytes = head.body_bytes;
        Ok(head.status)
    }

    /// Of the last answer.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let bytes = self.stream.read_buf(&mut self.received).await.context("receiving an answer")?;
        ensure!(bytes > 0, "the connection was closed");
        Ok(())
    }
}

impl Head {
    /// None where it is not whole.
    fn read(received: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(None) };
        let head = from_utf8(&received[..end]).context("reading an answer's head")?;
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer has a status")?;
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then_some(value)
        });
        let body_bytes = length.context("an answer has a Content-Length")?.trim().parse()?;
        Ok(Some(Self { status: status.parse()?, body_start: end + 4, body_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let bytes = b"HTTP/1.1 202 Accepted\r\ncontent-type: a\r\nContent-Length: 12\r\n\r\n{";
        assert!(Head::read(&bytes[..40]).expect("so far it is HTTP").is_none());
        let head = Head::read(bytes).expect("it is HTTP").expect("it is whole");
        assert_eq!((head.status, head.body_start, head.body_bytes), (202, bytes.len() - 1, 12));
        assert!(Head::read(b"HTTP/1.1 202 Accepted\r\n\r\n").is_err());
    }
}
