//! A box contains a row's bytes where it contains the values that they are.

use crate::Datatype;
use crate::boxes::Bounds;

/// Whether a box, given by lower and upper bounds, contains a row of finite values.
///
/// # Panics
/// It does not say of the bytes what it says of the values, by their definition.
pub fn contained(kind: Datatype, sides: &[(f64, f64)], raw: &[u8]) -> bool {
    let bounds = Bounds::new(kind, sides.len(), sides.iter().copied());
    let found = bounds.contain(0, 0, raw);
    let values = raw.chunks_exact(kind.size()).map(|raw| kind.value(raw));
    let expected = values
        .zip(sides)
        .all(|(value, &(lower, upper))| lower <= value && value <= upper);
    assert_eq!(found, expected, "{kind:?} {sides:?} {raw:?}");
    found
}

/// The value of which `raw` holds the bytes.
pub fn value(kind: Datatype, raw: &[u8]) -> f64 {
    kind.value(raw)
}

/// Whether all values that bytes hold are finite.
///
/// # Panics
/// They are found to be what one by one they are not.
pub fn are_finite(kind: Datatype, raw: &[u8]) -> bool {
    let found = kind.are_finite(raw);
    let expected = raw.chunks_exact(kind.size()).all(|raw| kind.value(raw).is_finite());
    assert_eq!(found, expected, "{kind:?} {raw:?}");
    found
}
