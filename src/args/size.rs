//! Sizes in bytes on the command line.

/// Maximum size of a buffer in bytes.
const MAX_BUFFER_BYTES: u64 = 64 << 30;

/// Parses a size in bytes: `4096`, `64K`, `64M`, `64MiB`, `2T`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_suffix("iB").unwrap_or(unit);
    let shift = ["", "K", "M", "G", "T"].iter().position(|name| name.eq_ignore_ascii_case(unit));
    let bytes = shift.zip(number.parse::<u64>().ok());
    let bytes = bytes.and_then(|(shift, number)| number.checked_mul(1 << (10 * shift)));
    bytes.ok_or_else(|| "expected a number of bytes, for example 4096, 512K, 64M or 1G".into())
}

/// Parses the size of a buffer in memory.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    match parse_bytes(text)? {
        MAX_BUFFER_BYTES.. => Err("must be less than 64G".into()),
        bytes => usize::try_from(bytes).map_err(|_too_large| "must be less than 4G".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(
            (parse_size("2k"), parse_size("64M"), parse_size("1GiB")),
            (Ok(2048), Ok(64 << 20), Ok(1 << 30))
        );
        assert_eq!((parse_bytes("2T"), parse_bytes("3TiB")), (Ok(2 << 40), Ok(3 << 40)));
        for bad in ["", "M", "1T", "-1", "1.5M", "99999999999999999G", "99999999G", "16iBs"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert!(parse_bytes("99999999T").is_err());
    }
}
