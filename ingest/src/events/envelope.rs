//! The object around the events, `{"metrics": […]}`, read without reading the events: each stays the text it is.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};
use std::fmt;

/// The first `events_max` events, and how many there are.
pub struct Envelope<'a> {
    pub events: Vec<&'a RawValue>,
    pub count: usize,
}

/// A body without events that could be looked at one by one.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("malformed JSON: {0}")]
    Syntax(serde_json::Error),
    #[error("the body must be an object with an array `metrics`: {0}")]
    Shape(serde_json::Error),
}

impl<'a> Envelope<'a> {
    pub fn read(body: &'a [u8], events_max: usize) -> Result<Self, Malformed> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let envelope = Object { events_max }.deserialize(&mut reader);
        envelope.and_then(|envelope| reader.end().map(|()| envelope)).map_err(|error| {
            match error.classify() {
                Category::Data => Malformed::Shape(error),
                Category::Syntax | Category::Eof | Category::Io => Malformed::Syntax(error),
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Metrics,
    #[serde(other)]
    Other,
}

struct Object {
    events_max: usize,
}

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Envelope<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = None;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Metrics if envelope.is_some() => return Err(A::Error::duplicate_field("metrics")),
                Field::Metrics => {
                    envelope = Some(map.next_value_seed(Events { events_max: self.events_max })?)
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        envelope.ok_or_else(|| A::Error::missing_field("metrics"))
    }
}

struct Events {
    events_max: usize,
}

impl<'de> DeserializeSeed<'de> for Events {
    type Value = Envelope<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    /// Those beyond the limit are only counted: `[0,0,0,…]` must not cost more memory than it has bytes.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::new();
        while events.len() < self.events_max {
            match seq.next_element()? {
                Some(event) => events.push(event),
                None => break,
            }
        }
        let mut count = events.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Envelope { events, count })
    }
}
