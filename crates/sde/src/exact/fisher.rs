//! The von Mises–Fisher law: a unit vector `u` in `D` dimensions with density `∝ e^{κ ⟨u, μ⟩}` on the sphere. With `w = ⟨u, μ⟩`
//! and `ν = D/2`,
//!
//! ```text
//! E₀[e^{κw}] = ₀F₁(; ν; κ²/4) = Γ(ν) (2/κ)^{ν−1} I_{ν−1}(κ)      A(κ) = E[w] = I_ν(κ)/I_{ν−1}(κ)      A′(κ) = Var[w]
//! ```
//!
//! (Mardia & Jupp 2000, section 9.3.2). Everything here is a function of `q = κ²` without a singularity at 0:
//! `G(q) = A(κ)/κ` and its derivatives.
//!
//! - Small `κ`: `S_ν(q) = ₀F₁(; ν; q/4) = Σ_k (q/4)^k/(k! (ν)_k)`, a sum of positive terms, with `dS_ν/dq = S_{ν+1}/(4ν)`, so that
//!   `G = S_{ν+1}/(2ν S_ν)`.
//! - Large `κ`: with `1 − w = 2s` and `s = 1/(1 + e^{−y})` the density of `y` is `∝ (s(1 − s))^{(D−1)/2} e^{−2κs}` on the whole
//!   line, analytic and decaying exponentially, for which the trapezoidal rule converges faster than any power of its step
//!   (Trefethen & Weideman 2014, section 5). Moments are central sums of positive terms: no ratio of huge numbers, no cancellation
//!   of `1 − A² − (D−1)A/κ`.

/// The law in `D` dimensions, from 1 (where the sphere is two points) on.
#[derive(Clone, Copy, Debug)]
pub(super) struct VonMisesFisher {
    dim: usize,
    /// The logarithm of the mass of [`Nodes`] at `κ = 0`.
    log_uniform: f64,
}

/// The functions of one `κ`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fisher {
    /// `ln E₀[e^{κ(w − 1)}] = ln ₀F₁(; D/2; κ²/4) − κ`, which stays moderate where `₀F₁` does not.
    pub(super) log_normaliser: f64,
    /// `A′(κ) = Var[w]`.
    pub(super) variance: f64,
    /// `G = A(κ)/κ`.
    pub(super) g: f64,
    /// `dG/dq`, `q = κ²`.
    pub(super) d_g: f64,
    /// `d²G/dq²`.
    pub(super) dd_g: f64,
}

impl VonMisesFisher {
    pub(super) fn new(dim: usize) -> Self {
        Self { dim, log_uniform: Nodes::new(dim, 0.0).log_mass }
    }

    /// At `kappa ≥ 0`.
    pub(super) fn at(&self, kappa: f64) -> Fisher {
        // Where κ is small against D, G hardly varies with q and its derivatives cancel in terms of moments, and not in the
        // series; the series must not overflow.
        if kappa <= 2.0 || (kappa <= 0.5 * self.dim as f64 && kappa < 600.0) {
            self.by_series(kappa)
        } else {
            self.by_quadrature(kappa)
        }
    }

    fn by_series(self, kappa: f64) -> Fisher {
        let (d, q) = (self.dim as f64, kappa * kappa);
        let [s_0, s_1, s_2, s_3] = [0.0, 1.0, 2.0, 3.0].map(|shift| hypergeometric(0.5 * d + shift, 0.25 * q));
        let g = s_1 / (d * s_0);
        // dS_ν/dq = S_{ν+1}/(4ν), so that G = 2 d ln S₀/dq and its derivatives are differences of ratios.
        let second = s_2 / (d * (d + 2.0) * s_0);
        let third = s_3 / (d * (d + 2.0) * (d + 4.0) * s_0);
        let d_g = 0.5 * (second - g * g);
        let dd_g = 0.5 * (0.5 * (third - second * g) - 2.0 * g * d_g);
        Fisher { log_normaliser: s_0.ln() - kappa, variance: g + 2.0 * q * d_g, g, d_g, dd_g }
    }

    fn by_quadrature(self, kappa: f64) -> Fisher {
        let law = Nodes::new(self.dim, kappa);
        let mean = law.average(|v| v);
        let variance = law.average(|v| (v - mean).powi(2));
        // Of w = 1 − v.
        let third = -law.average(|v| (v - mean).powi(3));
        let q = kappa * kappa;
        let g = (1.0 - mean) / kappa;
        let d_g = (variance - g) / (2.0 * q);
        let dd_g = (third / (2.0 * kappa) - 3.0 * d_g) / (2.0 * q);
        Fisher { log_normaliser: law.log_mass - self.log_uniform, variance, g, d_g, dd_g }
    }
}

/// `₀F₁(; ν; z)` for `z ≥ 0`.
fn hypergeometric(nu: f64, z: f64) -> f64 {
    let (mut term, mut sum, mut k) = (1.0, 1.0, 0.0);
    loop {
        let ratio = z / ((k + 1.0) * (nu + k));
        term *= ratio;
        sum += term;
        k += 1.0;
        if ratio < 0.5 && term < 1e-17 * sum {
            return sum;
        }
    }
}

/// The law of `v = 1 − w` as points with weights.
struct Nodes {
    /// `(v, weight)`; weights relative to the largest.
    nodes: Vec<(f64, f64)>,
    /// The sum of the weights.
    total: f64,
    /// `ln ∫`, up to a constant of the dimension.
    log_mass: f64,
}

impl Nodes {
    fn new(dim: usize, kappa: f64) -> Self {
        if dim == 1 {
            let nodes = vec![(0.0, 1.0), (2.0, (-2.0 * kappa).exp())];
            let total: f64 = nodes.iter().map(|node| node.1).sum();
            return Self { log_mass: total.ln(), nodes, total };
        }
        let a = 0.5 * (dim as f64 - 1.0);
        // s, and the logarithm of the density.
        let at = |y: f64| {
            let tail = (-y.abs()).exp();
            let s = if y < 0.0 { tail } else { 1.0 } / (1.0 + tail);
            // ln s + ln(1 − s) = −|y| − 2 ln(1 + e^−|y|).
            (s, -a * (y.abs() + 2.0 * tail.ln_1p()) - 2.0 * kappa * s)
        };
        // The mode, where a(1 − 2s) = 2κ s(1 − s), and the width there.
        let s = a / (a + kappa + a.hypot(kappa));
        let mode = s.ln() - (-s).ln_1p();
        let curvature = 2.0 * s * (1.0 - s) * (a + kappa * (1.0 - 2.0 * s));
        // The transform of the density falls like e^{−π|ω|/2} or faster, and like a Gaussian of this width before that.
        let h = (0.5 / curvature.sqrt()).min(0.2);
        let highest = at(mode).1;
        let node = |j: f64| {
            let (s, log_density) = at(mode + j * h);
            (2.0 * s, (log_density - highest).exp())
        };
        let mut nodes = vec![node(0.0)];
        for direction in [-1.0, 1.0] {
            let mut j = direction;
            loop {
                let next = node(j);
                if next.1 < 1e-20 {
                    break;
                }
                nodes.push(next);
                j += direction;
            }
        }
        let total: f64 = nodes.iter().map(|node| node.1).sum();
        Self { log_mass: highest + (h * total).ln(), nodes, total }
    }

    fn average(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.nodes.iter().map(|&(v, weight)| weight * f(v)).sum::<f64>() / self.total
    }
}
