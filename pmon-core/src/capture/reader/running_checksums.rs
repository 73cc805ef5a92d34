//! Computes the CRC-32C of many overlapping parts of a stream in time linear in the stream's
//! length.
//!
//! A hostile file can hold a block header every 64 bytes, each claiming a payload of 16 MiB.
//! Checksumming each payload separately would take quadratic time. Therefore [`RunningChecksums`]
//! keeps a running checksum at every 64th byte and derives the checksum of any part from two of
//! them, because CRCs are linear: `raw(a + b) = raw(a) * x^(8 * length of b) + raw(b)`.

use std::collections::VecDeque;

/// Distance in bytes between two kept running checksums.
const STEP: usize = 64;
/// Entries in each table of powers; together, the two tables shift by up to `POWERS * POWERS` bytes
/// (16 MiB).
const POWERS: usize = 4096;

/// Advances the CRC register from `state` over `bytes`, without the initial and the final
/// inversion.
fn raw(state: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!state, bytes)
}

/// Multiplies two 32-bit numbers without carries.
fn carryless(a: u32, b: u32) -> u64 {
    // Multiplying only every fourth bit of each factor keeps carries away from the bits in use.
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    let parts = |of: u32| [0, 1, 2, 3].map(|shift| u64::from(of) & (EVERY_FOURTH << shift));
    let (a, b) = (parts(a), parts(b));
    (0..4).fold(0, |all, shift| {
        let sum = (0..4).fold(0, |sum, i| sum ^ a[i].wrapping_mul(b[(4 + shift - i) % 4]));
        all | sum & (EVERY_FOURTH << shift)
    })
}

/// Multiplies two polynomials modulo the CRC-32C polynomial; bit 31 is the coefficient of `x^0`.
fn product(a: u32, b: u32) -> u32 {
    let all = carryless(a, b) << 1;
    (all >> 32) as u32 ^ raw(0, &(all as u32).to_le_bytes())
}

/// Holds running checksums of a stream, from which the checksum of any part follows.
#[derive(Default)]
pub(crate) struct RunningChecksums {
    /// Stream offset of the first entry of `sums`.
    first: u64,
    /// Running checksums, one every `STEP` bytes from `first` on.
    sums: VecDeque<u32>,
    /// Tables of `x^(8 n)` and `x^(8 * POWERS * n)`, built on first use.
    powers: [Vec<u32>; 2],
    summed: u64,
}

impl RunningChecksums {
    /// Returns the number of bytes checksummed so far.
    pub(crate) fn summed(&self) -> u64 {
        self.summed
    }

    /// Discards the running checksums, so that the next part may start at any offset.
    pub(crate) fn restart(&mut self) {
        self.sums.clear();
    }

    /// Returns the CRC-32C of `part`, which starts at stream offset `at`. Offsets must not decrease
    /// from call to call.
    pub(crate) fn crc(&mut self, at: u64, part: &[u8]) -> u32 {
        let step = STEP as u64;
        let end = at + part.len() as u64;
        while self.sums.len() > 1 && self.first < at {
            self.sums.pop_front();
            self.first += step;
        }
        if self.sums.is_empty() || self.first < at {
            (self.first, self.sums) = (at, VecDeque::from([0]));
        }
        // The first kept checksum is at or after the start of the part; extend them to its end.
        let head = (self.first - at).min(part.len() as u64) as usize;
        self.summed += head as u64;
        let state = raw(!0, &part[..head]);
        if self.first >= end {
            return !state;
        }
        while self.first + self.sums.len() as u64 * step <= end {
            let from = (self.first + (self.sums.len() as u64 - 1) * step - at) as usize;
            let last = self.sums.back().copied().unwrap_or_default();
            self.sums.push_back(raw(last, &part[from..from + STEP]));
            self.summed += step;
        }
        let steps = (end - self.first) / step;
        let tail = &part[(self.first + steps * step - at) as usize..];
        self.summed += tail.len() as u64;
        let sum = raw(self.sums[steps as usize], tail);
        !(self.shifted(state ^ self.sums[0], (end - self.first) as usize) ^ sum)
    }

    /// Advances a CRC register over `len` zero bytes.
    fn shifted(&mut self, state: u32, len: usize) -> u32 {
        if self.powers[0].is_empty() {
            let of = |factor: u32, count| {
                let next = |power: &u32| Some(product(*power, factor));
                std::iter::successors(Some(1 << 31), next).take(count).collect::<Vec<_>>()
            };
            // A zero byte shifts the register by 8 bits.
            let low = of(1 << (31 - 8), POWERS + 1);
            self.powers = [low.clone(), of(low[POWERS], POWERS + 1)];
        }
        let [low, high] = &self.powers;
        product(product(state, low[len % POWERS]), high[len / POWERS])
    }
}

#[cfg(test)]
mod tests;
