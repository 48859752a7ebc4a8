//! The protocol itself over a socket, for what a client library would not let through.

use super::{Backend, PATIENCE, until};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::{
    messages::{FindCoordinatorRequest, RequestHeader, ResponseHeader, TopicName},
    protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes},
};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// No answer of a broker is larger.
const ANSWER_BYTES: usize = 100 << 20;

pub struct Wire {
    stream: TcpStream,
    last: i32,
}

impl Wire {
    pub fn connect(bootstrap: &str) -> Result<Self> {
        let stream = TcpStream::connect(bootstrap).with_context(|| format!("connect to {bootstrap}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, last: 0 })
    }

    /// Sends a request of this version and waits for its answer.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let sent = self.send(version, request)?;
        self.answer::<R>(version, sent)
    }

    /// Sends only; the number that the answer will bear.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32> {
        self.last += 1;
        let frame = frame(self.last, version, request)?;
        self.write(&frame)?;
        Ok(self.last)
    }

    /// Waits for the answer to a request sent earlier.
    pub fn answer<R: Request>(&mut self, version: i16, sent: i32) -> Result<R::Response> {
        let mut answer = self.frame()?;
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))?;
        ensure!(header.correlation_id == sent, "answer to {}, not {sent}", header.correlation_id);
        let response = R::Response::decode(&mut answer, version)?;
        ensure!(answer.is_empty(), "{} bytes after the answer", answer.len());
        Ok(response)
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")
    }

    /// The next frame, without its length.
    pub fn frame(&mut self) -> Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("read a length")?;
        let length = usize::try_from(i32::from_be_bytes(length))?;
        ensure!(length <= ANSWER_BYTES, "an answer of {length} bytes");
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame).context("read an answer")?;
        Ok(Bytes::from(frame))
    }

    /// Waits until the broker closes the connection, without a further answer.
    pub fn closed(&mut self) -> Result<()> {
        let mut rest = [0; 64];
        match self.stream.read(&mut rest) {
            Ok(0) => Ok(()),
            Ok(count) => bail!("{count} bytes more: {:?}", &rest[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error).context("the connection stays open"),
        }
    }

    /// Waits until something can be read, but no longer than this.
    pub fn arrived(&mut self, within: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(within))?;
        match self.stream.peek(&mut [0]) {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(error).context("wait for an answer");
            }
            _ => {}
        }
        self.stream.set_read_timeout(Some(PATIENCE)).context("set a time-out")
    }
}

/// A request as it goes over the socket.
pub fn frame<R: Request>(number: i32, version: i16, request: &R) -> Result<Bytes> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(number)
        .with_client_id(Some(StrBytes::from_static_str("it")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version))?;
    request.encode(&mut body, version)?;
    let mut frame = BytesMut::with_capacity(4 + body.len());
    frame.put_i32(i32::try_from(body.len())?);
    frame.put(body);
    Ok(frame.freeze())
}

impl Backend {
    pub fn wire(&self) -> Result<Wire> {
        Wire::connect(&self.bootstrap)
    }

    /// The same when the coordinators are ready: a Kafka that has just started makes their topics first.
    pub fn coordinated(&self) -> Result<Wire> {
        let mut wire = self.wire()?;
        for (kind, key) in [(0, "warm-group"), (1, "warm-transaction")] {
            let request = FindCoordinatorRequest::default()
                .with_key_type(kind)
                .with_coordinator_keys(vec![StrBytes::from_static_str(key)]);
            until("the coordinators are ready", PATIENCE, || {
                let answer = wire.ask(4, &request)?;
                ensure!(answer.coordinators[0].error_code == 0, "{answer:?}");
                Ok(())
            })?;
        }
        Ok(wire)
    }
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
