//! Every offered version of every API is answered in its own shape, whatever exists.

use super::client::{Client, batch, start};
use crate::api::{
    layout::Layout,
    sample::{Sample, for_each_request},
};
use kafka_protocol::messages::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_every_api_is_answered() {
    let (_folder, broker) = start(&[]).await;
    for round in ["new", "old"] {
        macro_rules! check {
            ($key:ident, $request:ident, $response:ident) => {
                let key = ApiKey::$key;
                let layout = Layout::of(key).expect("it is offered");
                for version in layout.min..=layout.max {
                    // Deleted topics are gone for all others: theirs have a name of their own.
                    let text = match key {
                        ApiKey::DeleteTopics => format!("deleted-{version}"),
                        _ => "topic".to_owned(),
                    };
                    let data = if key == ApiKey::Produce { batch(&["a"], 0) } else { Sample::default().data };
                    let sample = Sample { text, data, elements: 1, tags: round == "old" };
                    let mut client = Client::to(&broker).await;
                    client.send_raw(key, version, &sample.body(&layout, version)).await;
                    if key == ApiKey::Produce {
                        continue; // all zeros: no answer is asked for
                    }
                    let answer: $response = client.answer(key, version).await;
                    drop(answer);
                }
            };
        }
        for_each_request!(check);
    }
    broker.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_offered_is_answered_with_an_error_or_closed() {
    let (_folder, broker) = start(&[]).await;
    for key in ApiKey::iter() {
        let range = key.valid_versions();
        for version in range.min..=range.max.saturating_add(1) {
            if Layout::of(key).is_some_and(|layout| (layout.min..=layout.max).contains(&version)) {
                continue;
            }
            let mut client = Client::to(&broker).await;
            client.send_raw(key, version.min(range.max), &[]).await;
            client.receive().await; // in time, or the test fails
        }
    }
    let mut client = Client::to(&broker).await;
    client.send_raw(ApiKey::ConsumerGroupHeartbeat, 0, &[]).await;
    let answer: ConsumerGroupHeartbeatResponse = client.answer(ApiKey::ConsumerGroupHeartbeat, 0).await;
    assert_eq!(answer.error_code, kafka_protocol::ResponseError::UnsupportedVersion.code());
    broker.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_gets_the_list_in_version_0() {
    let (_folder, broker) = start(&[]).await;
    let mut client = Client::to(&broker).await;
    client.send_raw(ApiKey::ApiVersions, 4, &[2, b'a', 2, b'b', 0]).await;
    let known: ApiVersionsResponse = client.answer(ApiKey::ApiVersions, 4).await;
    let frame =
        [&[0, 0, 0, 16][..], &[0, 18, 0, 99], &[0, 0, 0, 7], &[0, 2, b'm', b'e', 9, 9, 9, 9]].concat();
    tokio::io::AsyncWriteExt::write_all(&mut client.stream, &frame).await.expect("it takes requests");
    let answer: ApiVersionsResponse = client.answer(ApiKey::ApiVersions, 0).await;
    assert_eq!(answer.error_code, kafka_protocol::ResponseError::UnsupportedVersion.code());
    assert_eq!(answer.api_keys, known.api_keys);
    assert_eq!(answer.api_keys.len(), Layout::offered().count());
}
