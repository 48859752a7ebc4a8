use super::*;
use proptest::prelude::*;

fn sketch_of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    values.iter().for_each(|value| sketch.add(*value));
    sketch
}

/// Rank ⌈q·n⌉ of the values themselves.
fn exact(values: &[f64], q: PerMille) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * usize::try_from(q.0).expect("small")).div_ceil(1000).max(1);
    sorted[rank - 1]
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        (-6.0..12.0_f64).prop_map(|exponent| 10.0_f64.powf(exponent)),
        (0.0..5.0_f64),
        Just(42.0)
    ]
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(value(), 1..400)
}

proptest! {
    #[test]
    fn every_quantile_is_within_one_percent(values in values(), q in 0_u64..=1000) {
        let estimate = sketch_of(&values).quantile(PerMille(q)).expect("not empty");
        let exact = exact(&values, PerMille(q));
        prop_assert!((estimate - exact).abs() <= 0.01 * exact, "{estimate} for {exact}");
    }

    #[test]
    fn merges_in_any_order_and_grouping_give_the_same_bytes(a in values(), b in values(), c in values()) {
        let (sa, sb, sc) = (sketch_of(&a), sketch_of(&b), sketch_of(&c));
        let mut left = sa.clone();
        left.merge(&sb);
        left.merge(&sc);
        let mut right = sc;
        right.merge_bytes(&sb.to_bytes()).expect("own bytes");
        right.merge(&sa);
        let together = sketch_of(&[a, b, c].concat());
        prop_assert_eq!(left.to_bytes(), right.to_bytes());
        prop_assert_eq!(left.to_bytes(), together.to_bytes());
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

#[test]
fn the_constant_is_what_it_says() {
    assert!((INVERSE_LN_GAMMA - 1.0 / GAMMA.ln()).abs() < 1e-9);
}
