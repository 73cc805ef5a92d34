//! Numbers in decimal.

/// An integer that can be written in decimal.
pub(crate) trait Number: Copy {
    /// Returns whether the number is negative, and its absolute value.
    fn parts(self) -> (bool, u64);
}

macro_rules! unsigned {
    ($($kind:ty),*) => {
        $(impl Number for $kind {
            #[inline]
            fn parts(self) -> (bool, u64) {
                (false, self as u64)
            }
        })*
    };
}

macro_rules! signed {
    ($($kind:ty),*) => {
        $(impl Number for $kind {
            #[inline]
            fn parts(self) -> (bool, u64) {
                (self < 0, u64::from(self.unsigned_abs()))
            }
        })*
    };
}

unsigned!(u8, u16, u32, u64);
signed!(i32, i64);

/// Appends a number in decimal.
///
/// Each copy has a known length, so that no function is called for it: in JSON, numbers take much
/// of the time.
#[inline]
pub(crate) fn push_number(out: &mut Vec<u8>, number: impl Number) {
    let (is_negative, number) = number.parts();
    if is_negative {
        out.push(b'-');
    }
    push_unsigned(out, number);
}

fn push_unsigned(out: &mut Vec<u8>, number: u64) {
    const GROUP: u64 = 100_000_000;
    match number {
        0..GROUP => push_group(out, number as u32),
        _ => {
            push_unsigned(out, number / GROUP);
            out.extend_from_slice(&eight_digits((number % GROUP) as u32));
        }
    }
}

/// Appends a number of at most eight digits.
#[inline]
fn push_group(out: &mut Vec<u8>, number: u32) {
    match number {
        0..10 => out.push(b'0' + number as u8),
        10..100 => out.extend_from_slice(&pair(number)),
        100..1_000 => {
            let [[_, a], [b, c]] = [pair(number / 100), pair(number % 100)];
            out.extend_from_slice(&[a, b, c]);
        }
        1_000..10_000 => out.extend_from_slice(&four_digits(number)),
        _ => {
            let [high, low] = [number / 10_000, number % 10_000];
            match high {
                0..10 => out.push(b'0' + high as u8),
                10..100 => out.extend_from_slice(&pair(high)),
                100..1_000 => {
                    let [[_, a], [b, c]] = [pair(high / 100), pair(high % 100)];
                    out.extend_from_slice(&[a, b, c]);
                }
                _ => out.extend_from_slice(&four_digits(high)),
            }
            out.extend_from_slice(&four_digits(low));
        }
    }
}

#[inline]
fn four_digits(number: u32) -> [u8; 4] {
    let [[a, b], [c, d]] = [pair(number / 100), pair(number % 100)];
    [a, b, c, d]
}

#[inline]
fn eight_digits(number: u32) -> [u8; 8] {
    let [[a, b, c, d], [e, f, g, h]] = [four_digits(number / 10_000), four_digits(number % 10_000)];
    [a, b, c, d, e, f, g, h]
}

/// Returns the last nine digits of a number, with leading zeros.
#[inline]
pub(super) fn nine_digits(number: u32) -> [u8; 9] {
    let [a, b, c, d, e, f, g, h] = eight_digits(number % 100_000_000);
    [b'0' + (number / 100_000_000 % 10) as u8, a, b, c, d, e, f, g, h]
}

/// Returns the two digits of a number below 100.
#[inline]
fn pair(number: u32) -> [u8; 2] {
    const PAIRS: [[u8; 2]; 100] = {
        let (mut pairs, mut number) = ([[0; 2]; 100], 0);
        while number < 100 {
            pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
            number += 1;
        }
        pairs
    };
    PAIRS[number as usize % 100]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: impl Number) -> String {
        let mut out = b"x".to_vec();
        push_number(&mut out, number);
        String::from_utf8(out).unwrap_or_default()
    }

    #[test]
    fn numbers_are_written_as_by_the_standard_library() {
        for power in 0..64 {
            for number in [1_u64 << power, (1 << power) - 1, u64::MAX >> power, 10_u64.saturating_pow(power)]
            {
                for number in [number, number.wrapping_sub(1), number / 3] {
                    assert_eq!(text(number), format!("x{number}"));
                    assert_eq!(text(number as u32), format!("x{}", number as u32));
                    assert_eq!(text(number as i64), format!("x{}", number as i64));
                    assert_eq!(text(number as i32), format!("x{}", number as i32));
                }
            }
        }
        assert_eq!([text(i64::MIN), text(7_u8), text(77_u16)], ["x-9223372036854775808", "x7", "x77"]);
        (0..10_000_u32).for_each(|number| assert_eq!(text(number), format!("x{number}")));
    }

    #[test]
    fn nine_digits_have_leading_zeros() {
        for number in [0, 1, 9, 10, 99, 100, 123_456_789, 999_999_999, 1_000_000_000, u32::MAX] {
            let digits = String::from_utf8(nine_digits(number).to_vec()).unwrap_or_default();
            assert_eq!(digits, format!("{:09}", number % 1_000_000_000));
        }
    }
}
