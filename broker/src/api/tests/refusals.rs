//! Frames that are no requests close their own connection, and no other.

use super::client::{Client, start};
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_close_their_connection_only() {
    let (_folder, broker) = start(&[]).await;
    let mut good = Client::to(&broker).await;
    let frames: [&[u8]; 8] = [
        &[0xff, 0xff, 0xff, 0xff],                          // a negative length
        &[0x7f, 0xff, 0xff, 0xff],                          // far too long
        &[0, 0, 0, 0],                                      // empty
        &[0, 0, 0, 3, 0, 0, 0],                             // half a header
        &[0, 0, 0, 10, 3, 231, 0, 0, 0, 0, 0, 1, 255, 255], // API 999
        &[0, 0, 0, 10, 0, 3, 0, 1, 0, 0, 0, 1, 127, 255],   // a client id that is not there
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 127, 255, 255, 255], // a huge array
        &[0, 0, 0, 11, 0, 3, 0, 9, 0, 0, 0, 1, 255, 255, 200], // tagged fields that are not there
    ];
    for frame in frames {
        let mut bad = Client::to(&broker).await;
        bad.stream.write_all(frame).await.expect("it takes bytes");
        assert!(bad.receive().await.is_none(), "{frame:?}");
    }
    good.send_raw(ApiKey::ApiVersions, 0, &[]).await;
    let answer: ApiVersionsResponse = good.answer(ApiKey::ApiVersions, 0).await;
    assert_eq!(answer.error_code, 0);
    broker.close().await.expect("it closes");
}
