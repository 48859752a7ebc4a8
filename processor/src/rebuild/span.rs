//! The stretch of event time that is rebuilt. Pure.

use millrace_schemas::{EventTime, Window};
use serde::Serialize;

/// Whole windows of every size: both ends are multiples of the largest.
const STEP: Window = Window::FiveMinutes;

/// `[from, to)`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    from: EventTime,
    to: EventTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    #[error(
        "--{name} {time} is within a window of 5 min, and a part of a window can't be rebuilt: take {before} or {after}"
    )]
    Unaligned { name: &'static str, time: EventTime, before: EventTime, after: EventTime },
    #[error("--from {from} is not before --to {to}")]
    Empty { from: EventTime, to: EventTime },
}

impl Span {
    pub fn new(from: EventTime, to: EventTime) -> Result<Self, SpanError> {
        let (from, to) = (aligned("from", from)?, aligned("to", to)?);
        if from < to { Ok(Self { from, to }) } else { Err(SpanError::Empty { from, to }) }
    }

    pub fn from(&self) -> EventTime {
        self.from
    }

    pub fn to(&self) -> EventTime {
        self.to
    }

    pub fn contains(&self, time: EventTime) -> bool {
        (self.from..self.to).contains(&time)
    }

    /// One window of 5 min each, with all smaller ones in it.
    pub fn slices(&self) -> impl Iterator<Item = (EventTime, EventTime)> + use<> {
        let to = self.to;
        let starts = std::iter::successors(Some(self.from), |start| Some(STEP.end_of(*start)));
        starts.take_while(move |start| *start < to).map(|start| (start, STEP.end_of(start)))
    }
}

fn aligned(name: &'static str, time: EventTime) -> Result<EventTime, SpanError> {
    let before = STEP.start_of(time);
    match time == before {
        true => Ok(time),
        false => Err(SpanError::Unaligned { name, time, before, after: STEP.end_of(before) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> EventTime {
        EventTime::parse(text).expect("a time")
    }

    #[test]
    fn ends_within_a_window_are_refused_with_what_to_take() {
        let error = Span::new(at("2026-11-21T10:00:00Z"), at("2026-11-21T10:07:30Z")).expect_err("unaligned");
        let said = error.to_string();
        assert!(said.contains("--to") && said.contains("10:05:00Z") && said.contains("10:10:00Z"), "{said}");
        let error =
            Span::new(at("2026-11-21T10:04:59.999Z"), at("2026-11-21T10:05:00Z")).expect_err("unaligned");
        assert!(matches!(error, SpanError::Unaligned { name: "from", .. }));
    }

    #[test]
    fn a_span_is_not_empty() {
        let time = at("2026-11-21T10:00:00Z");
        assert!(matches!(Span::new(time, time), Err(SpanError::Empty { .. })));
        assert!(matches!(Span::new(time, at("2026-11-21T09:55:00Z")), Err(SpanError::Empty { .. })));
    }

    #[test]
    fn slices_cover_it_without_overlap() {
        let span = Span::new(at("2026-11-21T10:00:00Z"), at("2026-11-21T10:15:00Z")).expect("aligned");
        let slices: Vec<_> = span.slices().collect();
        assert_eq!(slices.len(), 3);
        assert_eq!((slices[0].0, slices[2].1), (span.from(), span.to()));
        assert!(slices.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert!(span.contains(span.from()) && !span.contains(span.to()));
    }
}
