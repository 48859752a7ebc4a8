//! Requests are made from the layout and from the codec; both must agree about every byte.

use super::*;
use crate::api::sample::{Sample, for_each_request};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

/// A request as the layout says must be decoded to its last byte, and what the codec writes must be walked to its end.
fn agree<R: Decodable + Encodable + Default>(key: ApiKey) {
    let layout = Layout::of(key).expect("it is offered");
    for version in layout.min..=layout.max {
        for elements in [0, 1, 3] {
            let body = Sample { elements, ..Sample::default() }.body(&layout, version);
            assert_eq!(walk(&layout, version, &body), Ok(&[][..]), "{key:?} v{version}");
            let mut rest = body.clone();
            let request = R::decode(&mut rest, version);
            let request = request.unwrap_or_else(|error| panic!("{key:?} v{version}: {error}"));
            assert!(rest.is_empty(), "{key:?} v{version} leaves {} bytes", rest.len());
            let mut again = bytes::BytesMut::new();
            request.encode(&mut again, version).expect("it was decoded");
            assert_eq!(walk(&layout, version, &again), Ok(&[][..]), "{key:?} v{version} encoded");
            for end in 0..body.len() {
                assert_eq!(walk(&layout, version, &body[..end]), Err(Malformed::Short), "{key:?} v{version}");
            }
        }
        let mut default = bytes::BytesMut::new();
        if R::default().encode(&mut default, version).is_ok() {
            assert_eq!(walk(&layout, version, &default), Ok(&[][..]), "{key:?} v{version} default");
        }
    }
}

#[test]
fn the_layouts_are_those_of_the_codec() {
    macro_rules! check {
        ($key:ident, $request:ident, $response:ident) => {
            agree::<$request>(ApiKey::$key);
        };
    }
    for_each_request!(check);
}

/// A count of two thousand millions at any place: the decoder would end the process if it believed it.
fn lie<R: Decodable>(key: ApiKey) {
    let layout = Layout::of(key).expect("it is offered");
    for version in layout.min..=layout.max {
        let body = Sample::default().body(&layout, version);
        let huge: &[u8] =
            if version >= layout.flexible { &[0xff, 0xff, 0xff, 0xff, 7] } else { &[0x7f, 0xff, 0xff, 0xff] };
        for place in 0..body.len() {
            let mut lying = body[..place].to_vec();
            lying.extend_from_slice(huge);
            lying.extend_from_slice(&body[(place + huge.len()).min(body.len())..]);
            if walk(&layout, version, &lying).is_ok() {
                let decoded = R::decode(&mut bytes::Bytes::from(lying), version);
                drop(decoded); // an error or not: it has not asked for the memory
            }
        }
    }
}

#[test]
fn no_count_is_believed() {
    macro_rules! check {
        ($key:ident, $request:ident, $response:ident) => {
            lie::<$request>(ApiKey::$key);
        };
    }
    for_each_request!(check);
}

#[test]
fn the_elements_of_all_arrays_together_are_bounded() {
    let layout = Layout::of(ApiKey::Metadata).expect("it is offered");
    let names = |count: i32| {
        let mut body = count.to_be_bytes().to_vec();
        body.resize(4 + 2 * count as usize, 0);
        body
    };
    let max = i32::try_from(ELEMENTS_MAX).expect("it is small");
    assert_eq!(walk(&layout, 1, &names(max)), Ok(&[][..]));
    assert_eq!(walk(&layout, 1, &names(max + 1)), Err(Malformed::Elements));
}

#[test]
fn negative_lengths_other_than_null_are_refused() {
    let layout = Layout::of(ApiKey::Metadata).expect("it is offered");
    assert_eq!(walk(&layout, 1, &(-1_i32).to_be_bytes()), Ok(&[][..]));
    assert_eq!(walk(&layout, 1, &(-2_i32).to_be_bytes()), Err(Malformed::Negative));
}

#[test]
fn a_known_tagged_field_is_as_long_as_it_says() {
    let layout = Layout::of(ApiKey::Fetch).expect("it is offered");
    let sample = Sample { tags: false, ..Sample::default() }.body(&layout, 12);
    let with = |tag: &[u8]| [&sample[..sample.len() - 1], tag].concat();
    assert_eq!(walk(&layout, 12, &with(&[1, 0, 3, 3, b'i', b'd'])), Ok(&[][..]));
    assert_eq!(walk(&layout, 12, &with(&[1, 0, 4, 3, b'i', b'd', 0])), Err(Malformed::Tagged));
    assert_eq!(walk(&layout, 12, &with(&[1, 0, 2, 3, b'i', b'd'])), Err(Malformed::Short));
}

proptest! {
    /// Whatever passes the walker is decoded or refused, but never panics and never asks for what is not there.
    #[test]
    fn arbitrary_bytes_do_no_harm(number in 0..ApiKey::iter().count(), version in 0..16_i16,
                                  body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = ApiKey::iter().nth(number).expect("it is one of them");
        let body = bytes::Bytes::from(body);
        macro_rules! check {
            ($key:ident, $request:ident, $response:ident) => {
                if key == ApiKey::$key && let Some(layout) = Layout::of(key)
                    && (layout.min..=layout.max).contains(&version)
                    && walk(&layout, version, &body).is_ok()
                {
                    drop($request::decode(&mut body.clone(), version));
                }
            };
        }
        for_each_request!(check);
    }

    #[test]
    fn changed_requests_do_no_harm(version in 0..16_i16, place in 0..400_usize, bytes in any::<[u8; 5]>()) {
        macro_rules! check {
            ($key:ident, $request:ident, $response:ident) => {
                if let Some(layout) = Layout::of(ApiKey::$key) && (layout.min..=layout.max).contains(&version) {
                    let mut body = Sample::default().body(&layout, version).to_vec();
                    let place = place % (body.len() + 1);
                    let end = (place + bytes.len()).min(body.len());
                    body[place..end].copy_from_slice(&bytes[..end - place]);
                    if walk(&layout, version, &body).is_ok() {
                        drop($request::decode(&mut bytes::Bytes::from(body), version));
                    }
                }
            };
        }
        for_each_request!(check);
    }
}
