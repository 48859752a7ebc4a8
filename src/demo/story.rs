//! What happens in the made-up shop: which services ask which queries, how often, how fast and how well. A pure function
//! of the time, so that the past can be told as well as the present, and told again alike.

/// After so long the story begins again.
pub const CYCLE_S: f64 = 600.0;

/// One service of the shop.
pub struct Service {
    pub name: &'static str,
    pub queries: &'static [Query],
}

/// One query shape as it usually is.
pub struct Query {
    /// `{}` is replaced with a number, so that no two texts need be alike.
    pub text: &'static str,
    pub per_s: f64,
    pub median_ms: f64,
    /// Of the logarithm of the duration.
    pub spread: f64,
    pub failed: f64,
    pub rows: i64,
    pub turn: Turn,
}

/// What becomes of a query in the course of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Steady,
    /// Gets slower and slower, as a table grows for which an index is missing; then somebody adds it.
    Slows,
    /// Fails in bursts, half of it by time-out.
    Fails,
    /// Nearly nobody asks any more for a while.
    Drops,
}

/// How a query is at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mood {
    pub rate: f64,
    pub slowness: f64,
    pub failed: f64,
}

const SLOWEST: f64 = 12.0;
const INDEX_ADDED_S: f64 = 480.0;
const BURSTS_S: [(f64, f64); 2] = [(120.0, 165.0), (420.0, 450.0)];
const BURST_FAILED: f64 = 0.3;
const DROP_S: (f64, f64) = (270.0, 315.0);
const DROP_RATE: f64 = 0.05;

impl Query {
    /// `at_s`: seconds since 1970.
    pub fn mood(&self, at_s: f64) -> Mood {
        let into_s = at_s.rem_euclid(CYCLE_S);
        let wave = 1.0 + 0.25 * (at_s * std::f64::consts::TAU / 97.0).sin();
        let mut mood = Mood { rate: self.per_s * wave, slowness: 1.0, failed: self.failed };
        match self.turn {
            Turn::Steady => {}
            Turn::Slows if into_s < INDEX_ADDED_S => {
                mood.slowness = 1.0 + (SLOWEST - 1.0) * (into_s / INDEX_ADDED_S).powi(2);
            }
            Turn::Slows => {}
            Turn::Fails if BURSTS_S.iter().any(|burst| within(into_s, *burst)) => mood.failed = BURST_FAILED,
            Turn::Fails => {}
            Turn::Drops if within(into_s, DROP_S) => mood.rate *= DROP_RATE,
            Turn::Drops => {}
        }
        mood
    }
}

fn within(into_s: f64, (from_s, to_s): (f64, f64)) -> bool {
    (from_s..to_s).contains(&into_s)
}

const fn query(text: &'static str, per_s: f64, median_ms: f64, rows: i64, turn: Turn) -> Query {
    Query { text, per_s, median_ms, spread: 0.45, failed: 0.002, rows, turn }
}

pub const SERVICES: [Service; 4] = [
    Service {
        name: "storefront",
        queries: &[
            query(
                "SELECT id, title, price_cents FROM products WHERE category_id = {} ORDER BY rank LIMIT 24",
                14.0,
                3.2,
                24,
                Turn::Drops,
            ),
            query("SELECT * FROM products WHERE id = {}", 22.0, 0.6, 1, Turn::Drops),
            query(
                "SELECT product_id, avg(stars) FROM reviews WHERE product_id = {} GROUP BY 1",
                6.0,
                4.5,
                1,
                Turn::Drops,
            ),
        ],
    },
    Service {
        name: "checkout",
        queries: &[
            query(
                "SELECT * FROM orders WHERE customer_id = {} ORDER BY created_at DESC LIMIT 20",
                5.0,
                18.0,
                20,
                Turn::Slows,
            ),
            query(
                "INSERT INTO orders (customer_id, total_cents) VALUES ({}, 4200) RETURNING id",
                3.0,
                2.4,
                1,
                Turn::Steady,
            ),
            query(
                "UPDATE stock SET available = available - 1 WHERE product_id = {}",
                4.0,
                1.8,
                1,
                Turn::Steady,
            ),
        ],
    },
    Service {
        name: "accounts",
        queries: &[
            query("SELECT id, password_hash FROM users WHERE email_hash = {}", 5.0, 0.9, 1, Turn::Fails),
            query(
                "UPDATE sessions SET seen_at = now() WHERE id = {} AND expires_at > now()",
                8.0,
                1.1,
                1,
                Turn::Fails,
            ),
        ],
    },
    Service {
        name: "reporting",
        queries: &[query(
            "SELECT date_trunc('hour', created_at), sum(total_cents) FROM orders WHERE shop_id = {} GROUP BY 1",
            0.4,
            620.0,
            168,
            Turn::Steady,
        )],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(turn: Turn) -> &'static Query {
        SERVICES
            .iter()
            .flat_map(|service| service.queries)
            .find(|query| query.turn == turn)
            .expect("the story has one of each turn")
    }

    #[test]
    fn one_query_gets_slower_until_it_is_mended() {
        let slowness = |at_s| of(Turn::Slows).mood(at_s).slowness;
        assert!(slowness(10.0) < 1.1 && slowness(240.0) > 3.0 && slowness(479.0) > 11.0);
        assert!((slowness(481.0) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn errors_come_in_bursts() {
        let failed = |at_s| of(Turn::Fails).mood(at_s).failed;
        assert!(failed(130.0) > 0.2 && failed(200.0) < 0.01 && failed(CYCLE_S + 430.0) > 0.2);
    }

    #[test]
    fn the_traffic_drops_and_returns() {
        let rate = |at_s| of(Turn::Drops).mood(at_s).rate;
        assert!(rate(290.0) < 0.1 * rate(265.0) && rate(320.0) > 0.5 * rate(265.0));
    }
}
