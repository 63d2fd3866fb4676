//! Sums of products of float64 values without rounding.
//!
//! Each product is a whole multiple of 2**-2148, below 2**2048: a number of as many binary digits holds the sum.
//!
//! Source: Kulisch and Miranker, Computer Arithmetic in Theory and Practice, 1981: the long accumulator.

use std::cmp::Ordering;

const DIGIT_BITS: usize = 16;
const DIGITS: usize = 256;

/// So many products of 106 bits, moved by less than a digit, do not overflow one digit's place.
const MAX_PRODUCTS: usize = 32;

/// How a sum of at most 32 products compares with zero. All values are finite.
pub(super) fn sign_of_sum(products: &[(f64, f64)]) -> Ordering {
    assert!(products.len() <= MAX_PRODUCTS, "{} products", products.len());
    let mut digits = [0i128; DIGITS];
    for &(a, b) in products {
        let ((a, a_place), (b, b_place)) = (whole(a), whole(b));
        let place = a_place + b_place;
        digits[place / DIGIT_BITS] += (a * b) << (place % DIGIT_BITS);
    }
    let (mut carry, mut below) = (0, 0);
    for digit in digits {
        let here = digit + carry;
        below |= here & ((1 << DIGIT_BITS) - 1);
        carry = here >> DIGIT_BITS;
    }
    carry.cmp(&0).then(below.cmp(&0))
}

/// A value as `whole * 2**(place - 1074)`, with 53 bits of a whole number.
fn whole(value: f64) -> (i128, usize) {
    assert!(value.is_finite(), "{value}");
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as usize, i128::from(bits & ((1 << 52) - 1)));
    let magnitude = if exponent == 0 { fraction } else { fraction | 1 << 52 };
    let whole = if value.is_sign_negative() {
        -magnitude
    } else {
        magnitude
    };
    (whole, exponent.max(1) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::random::Random;

    #[test]
    fn the_smallest_of_all_products_counts_beside_the_largest() {
        let (most, least) = ((f64::MAX, f64::MAX), (f64::from_bits(1), f64::from_bits(1)));
        let minus = |(a, b): (f64, f64)| (-a, b);
        for (products, sign) in [
            (vec![], Ordering::Equal),
            (vec![(0.0, -0.0)], Ordering::Equal),
            (vec![least], Ordering::Greater),
            (vec![minus(least)], Ordering::Less),
            (vec![most, minus(most)], Ordering::Equal),
            (vec![most, least, minus(most)], Ordering::Greater),
            (vec![minus(least), most, minus(most)], Ordering::Less),
            (vec![minus(most), least], Ordering::Less),
            (vec![most; MAX_PRODUCTS], Ordering::Greater),
            (vec![minus(most); MAX_PRODUCTS], Ordering::Less),
        ] {
            assert_eq!(sign_of_sum(&products), sign, "{products:?}");
        }
    }

    #[test]
    fn it_is_the_sign_of_whole_numbers_where_these_are_enough() {
        let mut random = Random::of(10);
        for _ in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let mut one = || (random.bits() >> 11) as i64 * random.pick(&[-1, 0, 1]);
            let mut pairs: Vec<(i64, i64)> = (0..4).map(|_| (one(), one())).collect();
            if random.chance(2) {
                let (a, b) = pairs[0];
                pairs[1] = (-a, b + random.below(3) as i64 - 1);
                pairs.truncate(2);
            }
            let sum: i128 = pairs.iter().map(|&(a, b)| i128::from(a) * i128::from(b)).sum();
            let scale = random.pick(&[1.0, 1.0 / 65_536.0, f64::from_bits(0x6000 << 48)]); // powers of two
            let products: Vec<_> = pairs.iter().map(|&(a, b)| (a as f64 * scale, b as f64)).collect();
            assert_eq!(sign_of_sum(&products), sum.cmp(&0), "{pairs:?} {scale}");
        }
    }
}
