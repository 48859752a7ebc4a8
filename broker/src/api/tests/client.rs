//! A client for tests: one broker in a folder of its own, one connection, requests written with the codec.

use crate::{Broker, Settings};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use clap::Parser;
use kafka_protocol::{
    messages::{ApiKey, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, Request, StrBytes},
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    settings: Settings,
}

/// Settings as from a command line; a free port unless it says otherwise.
pub fn settings(arguments: &[&str]) -> Settings {
    let listen = ["test", "--log-listen", "127.0.0.1:0"];
    let with_port = arguments.contains(&"--log-listen");
    let first = if with_port { &listen[..1] } else { &listen[..] };
    Options::parse_from(first.iter().chain(arguments)).settings
}

pub async fn start(arguments: &[&str]) -> (tempfile::TempDir, Broker) {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), settings(arguments)).await.expect("it starts");
    (folder, broker)
}

pub struct Client {
    pub stream: TcpStream,
}

const LIMIT: Duration = Duration::from_secs(20);

impl Client {
    pub async fn to(broker: &Broker) -> Self {
        Self { stream: TcpStream::connect(broker.address()).await.expect("it listens") }
    }

    /// Sends a header of this API and a body that is written already.
    pub async fn send_raw(&mut self, key: ApiKey, version: i16, body: &[u8]) {
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut frame = BytesMut::from(&[0; 4][..]);
        header.encode(&mut frame, key.request_header_version(version)).expect("a header");
        frame.put_slice(body);
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.expect("it takes requests");
    }

    /// An answer's frame; None: closed.
    pub async fn receive(&mut self) -> Option<Bytes> {
        let length = timeout(LIMIT, self.stream.read_i32()).await.expect("an answer in time").ok()?;
        let mut frame = vec![0; length as usize];
        timeout(LIMIT, self.stream.read_exact(&mut frame))
            .await
            .expect("all of it in time")
            .expect("all of it");
        Some(frame.into())
    }

    /// The answer as the codec reads it, to its last byte.
    pub async fn answer<R: Decodable>(&mut self, key: ApiKey, version: i16) -> R {
        let frame = self.receive().await;
        let mut frame = frame.unwrap_or_else(|| panic!("{key:?} v{version} closed the connection"));
        let header =
            ResponseHeader::decode(&mut frame, key.response_header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, 7);
        let response = R::decode(&mut frame, version);
        let response = response.unwrap_or_else(|error| panic!("{key:?} v{version}: {error}"));
        assert!(!frame.has_remaining(), "{key:?} v{version} leaves {} bytes", frame.remaining());
        response
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        let key = ApiKey::try_from(R::KEY).expect("a known API");
        let mut body = BytesMut::new();
        request.encode(&mut body, version).expect("it fits the version");
        self.send_raw(key, version, &body).await;
        self.answer(key, version).await
    }
}

/// A batch of records as a producer sends it.
pub fn batch(values: &[&'static str], time: i64) -> Bytes {
    use kafka_protocol::records::*;
    let records: Vec<Record> = values
        .iter()
        .zip(0..)
        .map(|(value, offset)| Record {
            transactional: false,
            control: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: offset as i32 - 1,
            timestamp: time + offset,
            key: None,
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: Default::default(),
            delete_horizon: false,
        })
        .collect();
    let mut to = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut to, &records, &options).expect("a batch");
    to.freeze()
}
