use super::*;
use millrace_schemas::metric::DURATION_MS_MAX;
use proptest::prelude::*;

fn sketch_of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    values.iter().for_each(|value| sketch.add(*value));
    sketch
}

fn merged(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut sketch = Sketch::from_bytes(a).expect("own bytes");
    sketch.merge_bytes(b).expect("own bytes");
    sketch.to_bytes()
}

/// Rank ⌈q·n⌉ of the values themselves.
fn exact(values: &[f64], q: PerMille) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * usize::try_from(q.0).expect("small")).div_ceil(1000).max(1);
    sorted[rank - 1]
}

/// From the smallest value that is no zero to the longest duration that a record may have.
fn any_size() -> impl Strategy<Value = f64> {
    (VALUE_MIN.log10()..DURATION_MS_MAX.log10())
        .prop_map(|exponent| 10.0_f64.powf(exponent).clamp(VALUE_MIN, DURATION_MS_MAX))
}

/// Most are small and few are huge: a Pareto distribution, with a tail so heavy that it has no mean.
fn heavy_tailed() -> impl Strategy<Value = f64> {
    (0.0..1.0_f64).prop_map(|u| (1.0 - u).powf(-1.0 / 0.8).min(DURATION_MS_MAX))
}

fn many(value: impl Strategy<Value = f64>) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(value, 1..400)
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    let mixed = prop_oneof![Just(0.0), any_size(), 0.0..5.0_f64, Just(42.0), Just(DURATION_MS_MAX)];
    prop_oneof![
        3 => many(mixed),
        2 => many(heavy_tailed()),
        1 => many(VALUE_MIN..1e-6),
        1 => many(any_size()),
        1 => (any_size(), 1_usize..400).prop_map(|(value, count)| vec![value; count]),
        1 => (1_usize..400).prop_map(|count| vec![0.0; count]),
    ]
}

/// Both ends, the middle and the tails, in thousandths.
const GRID: [u64; 15] = [0, 1, 5, 10, 50, 100, 250, 500, 750, 900, 950, 990, 995, 999, 1000];

proptest! {
    #[test]
    fn every_quantile_is_within_one_percent(values in values(), q in 0_u64..=1000) {
        let sketch = sketch_of(&values);
        let at_once = sketch.quantiles(GRID.map(PerMille));
        prop_assert_eq!(at_once, Some(GRID.map(|q| sketch.quantile(PerMille(q)).expect("not empty"))));
        for q in GRID.into_iter().chain([q]) {
            let estimate = sketch.quantile(PerMille(q)).expect("not empty");
            let exact = exact(&values, PerMille(q));
            prop_assert!((estimate - exact).abs() <= 0.01 * exact, "{estimate} for {exact} at {q} per mille");
        }
    }

    #[test]
    fn merges_in_any_order_and_grouping_give_the_same_bytes(a in values(), b in values(), c in values()) {
        let [one, two, three] = [&a, &b, &c].map(|values| sketch_of(values).to_bytes());
        let together = sketch_of(&[a, b, c].concat()).to_bytes();
        prop_assert_eq!(merged(&merged(&one, &two), &three), together.clone());
        prop_assert_eq!(merged(&one, &merged(&two, &three)), together.clone());
        prop_assert_eq!(merged(&merged(&three, &one), &two), together.clone());
        let mut without_bytes = Sketch::from_bytes(&three).expect("own bytes");
        without_bytes.merge(&Sketch::from_bytes(&two).expect("own bytes"));
        without_bytes.merge(&Sketch::from_bytes(&one).expect("own bytes"));
        prop_assert_eq!(without_bytes.to_bytes(), together);
    }

    #[test]
    fn an_empty_sketch_changes_nothing(values in values()) {
        let bytes = sketch_of(&values).to_bytes();
        let empty = Sketch::default().to_bytes();
        prop_assert_eq!(merged(&bytes, &empty), bytes.clone());
        prop_assert_eq!(merged(&empty, &bytes), bytes);
    }

    #[test]
    fn reads_what_it_wrote(values in values()) {
        let sketch = sketch_of(&values);
        prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch));
    }

    #[test]
    fn garbage_is_an_error_or_a_sketch_but_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        if let Ok(sketch) = Sketch::from_bytes(&bytes) {
            prop_assert!(sketch.bins.len() < 10_000);
        }
    }
}

#[test]
fn an_empty_sketch_has_no_quantile_and_is_three_bytes() {
    assert_eq!(Sketch::default().quantile(PerMille(500)), None);
    assert_eq!(Sketch::default().to_bytes(), [1, 0, 0]);
}

#[test]
fn refuses_other_versions_and_cuts() {
    let bytes = sketch_of(&[1.0, 2.0, 300.0]).to_bytes();
    for cut in 0..bytes.len() {
        assert!(Sketch::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(Sketch::from_bytes(&[2, 0, 0]), Err(SketchError::Version(2)));
    assert_eq!(Sketch::from_bytes(&[1, 0, 0, 0]), Err(SketchError::Malformed));
}

/// As version 1 wrote it; stored rows hold such bytes, so they must be read for ever.
#[test]
fn the_first_version_is_read() {
    let golden = include_bytes!("../../golden/sketch-1.bin");
    let sketch = sketch_of(&[0.0, 1e-9, 0.25, 1.0, 1.0, 42.0, 300.0, 1e12]);
    assert_eq!(Sketch::from_bytes(golden), Ok(sketch.clone()));
    assert_eq!(sketch.to_bytes(), golden);
}

/// Anyone can write to a topic: counts that no log could hold must not stop the windows.
#[test]
fn counts_beyond_all_measure_stay_at_the_largest() {
    let all = [
        1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 2, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        1, 1, 1,
    ];
    let mut sketch = Sketch::from_bytes(&all).expect("it is well formed");
    sketch.merge_bytes(&all).expect("it is well formed");
    sketch.merge(&sketch.clone());
    sketch.add(0.0);
    sketch.add(1.0);
    assert_eq!(sketch.count(), u64::MAX);
    assert_eq!(sketch.quantile(PerMille(1000)), Some(0.0));
    assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch));
}

#[test]
fn the_constant_is_what_it_says() {
    assert!((INVERSE_LN_GAMMA - 1.0 / GAMMA.ln()).abs() < 1e-9);
}
