//! Exact comparison of JSON numbers.

use std::cmp::Ordering;

use serde_json::{Number, Value};

#[derive(Clone, Copy)]
enum Exact {
    Whole(i128),
    Float(f64),
}

fn exact(number: &Number) -> Option<Exact> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
        .map(Exact::Whole)
        .or_else(|| {
            number
                .as_f64()
                .filter(|float| float.is_finite())
                .map(Exact::Float)
        })
}

/// Compares by mathematical value, without rounding either side; `None` if one is no finite number.
pub(crate) fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (exact(a)?, exact(b)?) {
        (Exact::Whole(a), Exact::Whole(b)) => Some(a.cmp(&b)),
        (Exact::Float(a), Exact::Float(b)) => a.partial_cmp(&b),
        (Exact::Whole(a), Exact::Float(b)) => Some(whole_to_float(a, b)),
        (Exact::Float(a), Exact::Whole(b)) => Some(whole_to_float(b, a).reverse()),
    }
}

fn whole_to_float(whole: i128, float: f64) -> Ordering {
    // JSON integers lie within -2^63 .. 2^64; beyond that the float decides alone. Both limits
    // are exact as floats.
    if float >= 18_446_744_073_709_551_616.0 {
        return Ordering::Less;
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let floor = float.floor();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a whole number within 2^64"
    )]
    let floor_whole = floor as i128;
    whole.cmp(&floor_whole).then(if float > floor {
        Ordering::Less
    } else {
        Ordering::Equal
    })
}

/// Whether two JSON values are the same, taking `1` and `1.0` as one number, since receivers do.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn order(a: &Value, b: &Value) -> Option<Ordering> {
        compare(a.as_number()?, b.as_number()?)
    }

    #[test]
    fn large_integers_are_not_rounded() {
        for (a, b, expected) in [
            (
                json!(9_007_199_254_740_993_u64),
                json!(9_007_199_254_740_992.0),
                Ordering::Greater,
            ),
            (
                json!(u64::MAX),
                json!(18_446_744_073_709_551_616.0),
                Ordering::Less,
            ),
            (
                json!(i64::MIN),
                json!(-9_223_372_036_854_775_808.0),
                Ordering::Equal,
            ),
            (json!(i64::MIN), json!(-9.3e18), Ordering::Greater),
            (json!(-1), json!(-1.5), Ordering::Greater),
            (json!(-2), json!(-1.5), Ordering::Less),
            (json!(0), json!(-0.0), Ordering::Equal),
            (json!(5), json!(1e300), Ordering::Less),
            (json!(i64::MAX), json!(u64::MAX), Ordering::Less),
        ] {
            assert_eq!(order(&a, &b), Some(expected), "{a} {b}");
            assert_eq!(order(&b, &a), Some(expected.reverse()), "{b} {a}");
        }
    }

    #[test]
    fn sameness_looks_inside() {
        assert!(same(
            &json!({"a": [1, "x"], "b": null}),
            &json!({"b": null, "a": [1.0, "x"]})
        ));
        assert!(!same(&json!({"a": 1}), &json!({"a": 1, "b": 1})));
        assert!(!same(&json!("1"), &json!(1)));
    }

    proptest! {
        #[test]
        fn agrees_with_arithmetic_where_floats_are_exact(a in -(1_i64 << 52)..(1_i64 << 52), b in any::<f64>()) {
            prop_assume!(b.is_finite());
            #[expect(clippy::cast_precision_loss, reason = "below 2^53, so exact")]
            let expected = (a as f64).partial_cmp(&b);
            prop_assert_eq!(order(&json!(a), &json!(b)), expected);
        }
    }
}
