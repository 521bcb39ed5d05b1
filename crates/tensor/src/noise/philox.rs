//! Philox 4×32-10: ten rounds of multiplication, exclusive-or and a Weyl sequence of keys over a 128-bit counter
//! (Salmon, Moraes, Dror and Shaw, SC 2011, section 4.3).

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// The golden ratio and √3 - 1, as 32-bit fractions.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Four random words for a counter and a key.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    philox_lanes(counter.map(|word| [word]), key).map(|[word]| word)
}

/// The same for `N` counters: word `i` of counter `lane` is `[i][lane]`.
#[inline(always)]
pub(super) fn philox_lanes<const N: usize>(counter: [[u32; N]; 4], mut key: [u32; 2]) -> [[u32; N]; 4] {
    // In the low halves of wide words, which is where vectors multiply; what gathers in the high halves is never read.
    let low = |word: u64| word & u64::from(u32::MAX);
    // Loops, not `map`, whose body would be compiled apart and for vectors that every processor has.
    let [mut c0, mut c1, mut c2, mut c3] = [[0; N]; 4];
    for lane in 0..N {
        (c0[lane], c1[lane]) = (u64::from(counter[0][lane]), u64::from(counter[1][lane]));
        (c2[lane], c3[lane]) = (u64::from(counter[2][lane]), u64::from(counter[3][lane]));
    }
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        for lane in 0..N {
            let a = u64::from(MULTIPLIERS[0]) * low(c0[lane]);
            let b = u64::from(MULTIPLIERS[1]) * low(c2[lane]);
            (c0[lane], c1[lane]) = ((b >> 32) ^ c1[lane] ^ u64::from(key[0]), b);
            (c2[lane], c3[lane]) = ((a >> 32) ^ c3[lane] ^ u64::from(key[1]), a);
        }
    }
    let mut words = [[0; N]; 4];
    for lane in 0..N {
        (words[0][lane], words[1][lane]) = (c0[lane] as u32, c1[lane] as u32);
        (words[2][lane], words[3][lane]) = (c2[lane] as u32, c3[lane] as u32);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::philox4x32_10;

    #[test]
    fn the_published_known_answers_are_reproduced() {
        // Random123's kat_vectors for philox4x32, 10 rounds.
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
