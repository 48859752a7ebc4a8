//! The records of a stretch of time, made from the story. The same stretch gives the same records with the same ids, so
//! that what is told twice is a duplicate and counted once.

use super::story::{Query, SERVICES};
use millrace_schemas::{EventTime, QueryMetric, RecordId, ServiceId, Status, WorkspaceId};
use std::ops::Range;
use uuid::{Uuid, uuid};

/// The story is told in steps of this length; a step's number is its time.
pub const STEP_MS: i64 = 100;

const ID_NAMESPACE: Uuid = uuid!("8f4b5f4e-6c0e-5e0a-9a53-4d1c3a6f7b21");
const TIMEOUT_MS: f64 = 30_000.0;
const STEPS_PER_S: f64 = 1000.0 / STEP_MS as f64;

/// The shop's services in the order of [`SERVICES`], as the installation knows them.
pub struct Shop {
    pub workspace: WorkspaceId,
    pub services: Vec<ServiceId>,
}

impl Shop {
    /// All records whose queries ended in these steps, in order of time to within a step.
    pub fn records(&self, steps: Range<i64>) -> Vec<QueryMetric> {
        steps.flat_map(|step| self.step(step)).collect()
    }

    fn step(&self, step: i64) -> impl Iterator<Item = QueryMetric> {
        let services = SERVICES.iter().zip(&self.services);
        services.enumerate().flat_map(move |(of_service, (service, id))| {
            service.queries.iter().enumerate().flat_map(move |(of_query, query)| {
                let place = Place { step, service: of_service, query: of_query };
                self.query(*id, query, place)
            })
        })
    }

    fn query(
        &self,
        service: ServiceId,
        query: &'static Query,
        place: Place,
    ) -> impl Iterator<Item = QueryMetric> {
        let wanted = query.mood(place.at_s()).rate / STEPS_PER_S;
        // A rate below one a step is a chance.
        let count = wanted.floor() + f64::from(place.dice(u64::MAX).fraction() < wanted.fract());
        (0..count as u64).map(move |number| self.record(service, query, place, number))
    }

    fn record(&self, service: ServiceId, query: &Query, place: Place, number: u64) -> QueryMetric {
        let (mood, mut dice) = (query.mood(place.at_s()), place.dice(number));
        let completed_us = (place.step as f64 + dice.fraction()) * STEP_MS as f64 * 1000.0;
        let status = status(&mut dice, mood.failed);
        let usual_ms = query.median_ms * mood.slowness * (query.spread * dice.normal()).exp();
        let duration_ms = if status == Status::Timeout { TIMEOUT_MS } else { usual_ms };
        let name = format!("{}/{}/{}/{number}", place.step, place.service, place.query);
        QueryMetric {
            id: RecordId(Uuid::new_v5(&ID_NAMESPACE, name.as_bytes())),
            workspace_id: self.workspace,
            service_id: service,
            query_text: query.text.replace("{}", &(1 + dice.next() % 50_000).to_string()),
            status,
            duration_ms: Some((duration_ms * 1000.0).round() / 1000.0),
            rows_affected: (status == Status::Success).then_some(query.rows),
            error_message: message(status).map(str::to_owned),
            started_at: EventTime((completed_us - duration_ms * 1000.0) as i64),
            completed_at: EventTime(completed_us as i64),
            tags: vec!["demo".to_owned()],
        }
    }
}

fn status(dice: &mut Dice, failed: f64) -> Status {
    match dice.fraction() {
        chance if chance < failed / 2.0 => Status::Timeout,
        chance if chance < failed => Status::Failed,
        _ => Status::Success,
    }
}

fn message(status: Status) -> Option<&'static str> {
    match status {
        Status::Timeout => Some("canceling statement due to statement timeout"),
        Status::Failed => {
            Some("remaining connection slots are reserved for roles with the SUPERUSER attribute")
        }
        _ => None,
    }
}

/// Where in the story a record stands.
#[derive(Clone, Copy)]
struct Place {
    step: i64,
    service: usize,
    query: usize,
}

impl Place {
    fn at_s(self) -> f64 {
        self.step as f64 / STEPS_PER_S
    }

    fn dice(self, number: u64) -> Dice {
        let mut dice = Dice(self.step as u64);
        for part in [self.service as u64, self.query as u64, number] {
            dice = Dice(dice.next() ^ part);
        }
        dice
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In [0, 1).
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of the standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.fraction(), self.fraction());
        (-2.0 * radius.ln()).sqrt() * (angle * std::f64::consts::TAU).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// 2026-11-21T00:00:00Z, where a cycle begins.
    const MIDNIGHT: i64 = 1_795_219_200_000 / STEP_MS;
    const MINUTE: i64 = 60_000 / STEP_MS;

    fn shop() -> Shop {
        let services = (0..SERVICES.len() as u128).map(|number| ServiceId(Uuid::from_u128(number)));
        Shop { workspace: WorkspaceId(Uuid::nil()), services: services.collect() }
    }

    #[test]
    fn the_same_stretch_gives_the_same_records() {
        let whole = shop().records(MIDNIGHT..MIDNIGHT + MINUTE);
        let mut parts = shop().records(MIDNIGHT..MIDNIGHT + 7);
        parts.extend(shop().records(MIDNIGHT + 7..MIDNIGHT + MINUTE));
        assert_eq!(whole, parts);
        let ids: HashSet<_> = whole.iter().map(|record| record.id).collect();
        assert_eq!(ids.len(), whole.len());
    }

    #[test]
    fn every_record_is_valid_and_of_its_time() {
        for step in [MIDNIGHT, MIDNIGHT + 13] {
            for record in shop().records(step..step + MINUTE) {
                record.validate().expect("a valid record");
                assert!(record.started_at <= record.completed_at);
                let step_of = record.completed_at.0.div_euclid(STEP_MS * 1000);
                assert!((step..step + MINUTE).contains(&step_of));
            }
        }
    }

    #[test]
    fn the_rates_are_those_of_the_story() {
        let records = shop().records(MIDNIGHT..MIDNIGHT + 97 * 10);
        let wanted: f64 =
            SERVICES.iter().flat_map(|service| service.queries).map(|query| query.per_s * 97.0).sum();
        let off = (records.len() as f64 - wanted).abs() / wanted;
        assert!(off < 0.05, "{} records instead of {wanted}", records.len());
    }

    #[test]
    fn failures_say_why() {
        let burst = MIDNIGHT + 2 * MINUTE;
        let records = shop().records(burst..burst + MINUTE / 2);
        let failed: Vec<_> = records.iter().filter(|record| record.status != Status::Success).collect();
        assert!(failed.len() > 50, "{} failures in a burst", failed.len());
        assert!(failed.iter().all(|record| record.error_message.is_some()));
    }
}
