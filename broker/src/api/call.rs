//! One request with its header read, and how its answer is made. Nothing here knows an API.

use super::{Api, guard, layout::Layout};
use crate::{
    coordinator::Client,
    net::{Answer, Answering, Close, Peer, Pending},
};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ResponseHeader},
    protocol::{Decodable, Encodable, Request},
};
use std::{future::Future, sync::Arc};

const PREFIX: usize = 4;

/// A request whose header is read and whose body is not.
pub struct Call {
    pub api: Arc<Api>,
    pub peer: Peer,
    pub key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: String,
    /// After the header. Of a version that is not offered, what follows the client's id.
    pub body: Bytes,
}

/// What an answer needs to know of its request.
#[derive(Clone, Copy)]
pub struct Head {
    pub key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
}

impl Call {
    pub fn read(api: Arc<Api>, peer: Peer, frame: Bytes) -> Result<Self, Close> {
        let mut body = frame;
        let short = |_| Close("a frame too short for a request's header".into());
        let number = body.try_get_i16().map_err(short)?;
        let version = body.try_get_i16().map_err(short)?;
        let correlation_id = body.try_get_i32().map_err(short)?;
        let key = ApiKey::try_from(number).map_err(|()| Close(format!("the unknown API {number}")))?;
        let client_id = match body.try_get_i16().map_err(short)? {
            -1 => String::new(),
            length => {
                let length = usize::try_from(length).ok().filter(|length| *length <= body.len());
                let length = length.ok_or_else(|| Close("a client id that is not there".into()))?;
                String::from_utf8_lossy(&body.split_to(length)).into_owned()
            }
        };
        let mut call = Self { api, peer, key, version, correlation_id, client_id, body };
        if call.offered().is_some() && key.request_header_version(version) >= 2 {
            let rest = guard::walk_tags(&call.body).map_err(|error| call.malformed(&error))?.len();
            call.body.advance(call.body.len() - rest);
        }
        Ok(call)
    }

    /// The layout of the request, if its version is offered.
    pub fn offered(&self) -> Option<Layout> {
        Layout::of(self.key).filter(|layout| (layout.min..=layout.max).contains(&self.version))
    }

    pub fn malformed(&self, error: &dyn std::fmt::Display) -> Close {
        Close(format!("{:?} v{} can't be read: {error}", self.key, self.version))
    }

    pub fn head(&self) -> Head {
        Head { key: self.key, version: self.version, correlation_id: self.correlation_id }
    }

    /// Who asks, as Kafka shows it.
    pub fn client(&self) -> Client {
        Client { id: self.client_id.clone(), host: format!("/{}", self.peer.client.ip().to_canonical()) }
    }

    /// The body, once it is sure that decoding it costs no more than what is there.
    pub fn decode<R: Decodable>(&self) -> Result<R, Close> {
        let layout = self.offered().ok_or_else(|| self.malformed(&"the version is not offered"))?;
        guard::walk(&layout, self.version, &self.body).map_err(|error| self.malformed(&error))?;
        R::decode(&mut self.body.clone(), self.version).map_err(|error| self.malformed(&error))
    }

    /// Decodes, and answers with what `handle` makes of it, before the connection's next request begins.
    pub fn serve<R, F, A>(self, handle: F) -> Result<Pending, Close>
    where
        R: Request + Send + 'static,
        R::Response: Send,
        F: FnOnce(Self, R) -> A,
        A: Future<Output = R::Response> + Send + 'static,
    {
        let (request, head) = (self.decode::<R>()?, self.head());
        let response = handle(self, request);
        let answering: Answering = Box::pin(async move { head.answer(&response.await).map(Some) });
        Ok(Pending { answering, overlaps: false })
    }

    /// Answers with what is known already.
    pub fn reply(&self, response: &impl Encodable) -> Result<Pending, Close> {
        let answer = self.head().answer(response)?;
        Ok(Pending { answering: Box::pin(async { Ok(Some(answer)) }), overlaps: false })
    }
}

impl Head {
    /// A frame of one piece.
    pub fn answer(&self, response: &impl Encodable) -> Result<Answer, Close> {
        let unfit = |error| self.unfit(&error);
        let size = response.compute_size(self.version).map_err(unfit)?;
        let mut frame = self.open(size)?;
        response.encode(&mut frame, self.version).map_err(unfit)?;
        close(&mut frame, 0)?;
        Ok(frame.freeze().into())
    }

    /// A fault of ours: the answer has something that its version has no place for.
    fn unfit(&self, error: &dyn std::fmt::Display) -> Close {
        let reason = format!("the answer to {:?} v{} can't be written: {error}", self.key, self.version);
        tracing::error!("{reason}");
        Close(reason)
    }

    /// Room for the length, and the header.
    pub fn open(&self, size: usize) -> Result<BytesMut, Close> {
        let mut frame = BytesMut::with_capacity(PREFIX + 5 + size);
        frame.resize(PREFIX, 0);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        let version = self.key.response_header_version(self.version);
        header
            .encode(&mut frame, version)
            .map_err(|error| Close(format!("a header can't be written: {error}")))?;
        Ok(frame)
    }
}

/// Writes the length of the frame to its front; `more` bytes follow in other pieces.
pub fn close(frame: &mut BytesMut, more: usize) -> Result<(), Close> {
    let length =
        i32::try_from(frame.len() - PREFIX + more).map_err(|_| Close("an answer is too large".into()))?;
    frame[..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(())
}
