//! Continuous extensions of Runge–Kutta methods: the state anywhere during a step, from the step's own slopes.
//!
//! ```text
//! y(τ + θ H) = y + H Σ_i b_i(θ) k_i        0 ≤ θ ≤ 1,  i = 1 … 7,  k_7 the slope at the new state
//! ```
//!
//! Both are of order 4, `O(H⁵)` from the solution that starts at `y`; they continue each other with their first derivatives, and are the new
//! state at `θ = 1`. `k_7` is what the error estimate needs anyway, and the next step's first slope.

/// Dormand and Prince's: Hairer, Nørsett & Wanner 1993, section II.6, eq. 6.12.
pub(super) fn dopri5(theta: f64) -> [f64; 7] {
    let end = theta * theta * (3.0 - 2.0 * theta);
    let bump = (theta * (theta - 1.0)).powi(2);
    [
        35.0 / 384.0 * end + theta * (theta - 1.0).powi(2)
            - bump * 5.0 * (2_558_722_523.0 - 31_403_016.0 * theta) / 11_282_082_432.0,
        0.0,
        500.0 / 1113.0 * end + bump * 100.0 * (882_725_551.0 - 15_701_508.0 * theta) / 32_700_410_799.0,
        125.0 / 192.0 * end - bump * 25.0 * (443_332_067.0 - 31_403_016.0 * theta) / 1_880_347_072.0,
        -2187.0 / 6784.0 * end + bump * 32_805.0 * (23_143_187.0 - 3_489_224.0 * theta) / 199_316_789_632.0,
        11.0 / 84.0 * end - bump * 55.0 * (29_972_135.0 - 7_076_736.0 * theta) / 822_651_844.0,
        theta * theta * (theta - 1.0) + bump * 10.0 * (7_414_447.0 - 829_305.0 * theta) / 29_380_423.0,
    ]
}

/// Tsitouras's: Tsitouras 2011 (doi:10.1016/j.camwa.2011.06.002), section 4.
pub(super) fn tsit5(theta: f64) -> [f64; 7] {
    let square = theta * theta;
    [
        -1.053_088_497_729_021_6
            * theta
            * (theta - 1.329_989_018_975_141)
            * (square - 1.436_402_854_171_635 * theta + 0.713_981_691_707_420_9),
        0.1017 * square * (square - 2.196_656_833_824_975_4 * theta + 1.294_985_250_737_463),
        2.490_627_285_651_253 * square * (square - 2.385_356_454_720_616_6 * theta + 1.578_034_682_080_925),
        -16.548_102_889_244_902 * (theta - 1.217_129_272_955_332_4) * (theta - 0.616_204_060_378_000_9) * square,
        47.379_521_962_819_28 * (theta - 1.203_071_208_372_362_6) * (theta - 0.658_047_292_653_547_4) * square,
        -34.870_657_861_496_61 * (theta - 1.2) * (theta - 2.0 / 3.0) * square,
        2.5 * (theta - 1.0) * (theta - 0.6) * square,
    ]
}
