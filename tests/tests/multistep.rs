//! Multistep and single-step exponential solvers against the formulas of their papers, one number at a time.

mod oracle;

use fokker_sde::{Cond, Denoiser, Edm, GaussianMixture, Sde, VariancePreserving};
use fokker_solve::{
    Deis, DpmPpMultistep, DpmPpSinglestep, DpmSolver, ExponentialAdams, Grid, Ipndm, Lms, LowerOrderFinal, Pndm, Prediction,
    Sampler, Solver, SolverConfig, UniPc, UniPcVariant, Variable, WarmUp,
};
use fokker_tensor::{Dtype, Tensor};

use oracle::{NOISE, max_difference, mixture};

/// A mixture, times and the states they start from.
struct Setting {
    sde: VariancePreserving,
    model: GaussianMixture,
    times: Vec<f64>,
    x: Tensor,
}

impl Setting {
    fn new(times: &[f64]) -> Self {
        let sde = VariancePreserving::default();
        let x = NOISE.normal(&[4, 2], 0, 0, Dtype::F64);
        Self { model: mixture(sde.clone()), sde, times: times.to_vec(), x }
    }

    fn run(&self, solver: impl Solver) -> Tensor {
        let grid = Grid::new(self.times.clone(), false, &self.sde).unwrap();
        let sampler = Sampler::new(&self.model, solver, grid).unwrap().state(Dtype::F64);
        sampler.integrate(self.x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x
    }

    fn data(&self, x: &Tensor, t: f64) -> Tensor {
        self.model.denoise(x, &t.into(), &Cond::NONE)
    }

    fn noise(&self, x: &Tensor, t: f64) -> Tensor {
        sum(&[(1.0 / self.sde.sigma(t), x), (-self.sde.alpha(t) / self.sde.sigma(t), &self.data(x, t))])
    }

    fn alpha(&self, t: f64) -> f64 {
        self.sde.alpha(t)
    }

    fn sigma(&self, t: f64) -> f64 {
        self.sde.sigma(t)
    }

    fn lambda(&self, t: f64) -> f64 {
        (self.alpha(t) / self.sigma(t)).ln()
    }

    fn time(&self, lambda: f64) -> f64 {
        self.sde.time_at_log_snr(2.0 * lambda)
    }

    /// DDIM's step with a given noise.
    fn transfer(&self, x: &Tensor, noise: &Tensor, t: f64, s: f64) -> Tensor {
        let clean = sum(&[(1.0 / self.alpha(t), x), (-self.sigma(t) / self.alpha(t), noise)]);
        sum(&[(self.alpha(s), &clean), (self.sigma(s), noise)])
    }
}

fn sum(terms: &[(f64, &Tensor)]) -> Tensor {
    terms[1..].iter().fold(terms[0].1 * terms[0].0, |total, (c, x)| &total + &(*x * *c))
}

#[track_caller]
fn assert_same(found: &Tensor, expected: &Tensor) {
    let difference = max_difference(found, expected);
    assert!(difference < 1e-10, "differ by {difference:e}");
}

const TIMES: [f64; 6] = [0.9, 0.75, 0.65, 0.5, 0.42, 0.3];

#[test]
fn dpm_solver_is_algorithms_1_and_2_of_lu_et_al() {
    let set = Setting::new(&TIMES);
    let (mut second, mut third) = (set.x.clone(), set.x.clone());
    for pair in TIMES.windows(2) {
        let (t, s) = (pair[0], pair[1]);
        let h = set.lambda(s) - set.lambda(t);
        let ratio = |end: f64| set.alpha(end) / set.alpha(t);
        let middle = set.time(set.lambda(t) + 0.5 * h);
        let e = set.noise(&second, t);
        let u = sum(&[(ratio(middle), &second), (-set.sigma(middle) * (0.5 * h).exp_m1(), &e)]);
        second = sum(&[(ratio(s), &second), (-set.sigma(s) * h.exp_m1(), &set.noise(&u, middle))]);

        let (r_1, r_2) = (1.0 / 3.0, 2.0 / 3.0);
        let (t_1, t_2) = (set.time(set.lambda(t) + r_1 * h), set.time(set.lambda(t) + r_2 * h));
        let e = set.noise(&third, t);
        let u_1 = sum(&[(ratio(t_1), &third), (-set.sigma(t_1) * (r_1 * h).exp_m1(), &e)]);
        let d_1 = &set.noise(&u_1, t_1) - &e;
        let bend = -set.sigma(t_2) * r_2 / r_1 * ((r_2 * h).exp_m1() / (r_2 * h) - 1.0);
        let u_2 = sum(&[(ratio(t_2), &third), (-set.sigma(t_2) * (r_2 * h).exp_m1(), &e), (bend, &d_1)]);
        let d_2 = &set.noise(&u_2, t_2) - &e;
        let bend = -set.sigma(s) / r_2 * (h.exp_m1() / h - 1.0);
        third = sum(&[(ratio(s), &third), (-set.sigma(s) * h.exp_m1(), &e), (bend, &d_2)]);
    }
    assert_same(&set.run(DpmSolver { order: 2 }), &second);
    assert_same(&set.run(DpmSolver { order: 3 }), &third);
    assert_same(&set.run(DpmSolver { order: 1 }), &set.run(fokker_solve::Ddim::default()));
}

#[test]
fn dpm_solver_2_is_dpm_2_of_k_diffusion_where_the_time_is_the_noise_level() {
    let edm = Edm::default();
    let model = mixture(edm.clone());
    let sigmas = [10.0, 4.0, 1.5, 0.4];
    let grid = Grid::new(sigmas.to_vec(), false, &edm).unwrap();
    let mut x = &NOISE.normal(&[4, 2], 0, 0, Dtype::F64) * 10.0;
    let sampler = Sampler::new(&model, DpmSolver { order: 2 }, grid).unwrap().state(Dtype::F64);
    let found = sampler.integrate(x.clone(), &Cond::NONE, NOISE, 0, &mut []).unwrap().x;
    let slope = |x: &Tensor, sigma: f64| &(x - &model.denoise(x, &sigma.into(), &Cond::NONE)) * (1.0 / sigma);
    for pair in sigmas.windows(2) {
        let middle = (0.5 * (pair[0].ln() + pair[1].ln())).exp();
        let x_2 = sum(&[(1.0, &x), (middle - pair[0], &slope(&x, pair[0]))]);
        x = sum(&[(1.0, &x), (pair[1] - pair[0], &slope(&x_2, middle))]);
    }
    assert_same(&found, &x);
}

#[test]
fn dpm_solver_plus_plus_is_algorithms_1_and_2_of_lu_et_al_and_the_authors_third_order() {
    let set = Setting::new(&TIMES);
    let (mut single, mut three) = (set.x.clone(), set.x.clone());
    for pair in TIMES.windows(2) {
        let (t, s) = (pair[0], pair[1]);
        let h = set.lambda(s) - set.lambda(t);
        let ratio = |end: f64| set.sigma(end) / set.sigma(t);
        let middle = set.time(set.lambda(t) + 0.5 * h);
        let d = set.data(&single, t);
        let u = sum(&[(ratio(middle), &single), (-set.alpha(middle) * (-0.5 * h).exp_m1(), &d)]);
        single = sum(&[(ratio(s), &single), (-set.alpha(s) * (-h).exp_m1(), &set.data(&u, middle))]);

        let (r_1, r_2) = (1.0 / 3.0, 2.0 / 3.0);
        let (t_1, t_2) = (set.time(set.lambda(t) + r_1 * h), set.time(set.lambda(t) + r_2 * h));
        let d = set.data(&three, t);
        let u_1 = sum(&[(ratio(t_1), &three), (-set.alpha(t_1) * (-r_1 * h).exp_m1(), &d)]);
        let bend = r_2 / r_1 * set.alpha(t_2) * ((-r_2 * h).exp_m1() / (r_2 * h) + 1.0);
        let d_1 = &set.data(&u_1, t_1) - &d;
        let u_2 = sum(&[(ratio(t_2), &three), (-set.alpha(t_2) * (-r_2 * h).exp_m1(), &d), (bend, &d_1)]);
        let bend = set.alpha(s) / r_2 * ((-h).exp_m1() / h + 1.0);
        let d_2 = &set.data(&u_2, t_2) - &d;
        three = sum(&[(ratio(s), &three), (-set.alpha(s) * (-h).exp_m1(), &d), (bend, &d_2)]);
    }
    assert_same(&set.run(DpmPpSinglestep { order: 2 }), &single);
    assert_same(&set.run(DpmPpSinglestep { order: 3 }), &three);
    for order in [2, 3] {
        let never = DpmPpMultistep { order, lower_order_final: LowerOrderFinal::Never };
        assert_same(&set.run(never), &multistep(&set, |_| order));
        // Five moves and no last denoising: the last is of order 1, the one before of order 2.
        let few = DpmPpMultistep { order, lower_order_final: LowerOrderFinal::FewSteps };
        assert_same(&set.run(few), &multistep(&set, |i| order.min(5 - i)));
    }
}

/// DPM-Solver++ (2M) and (3M), the order of step `i` being at most `most(i)`.
fn multistep(set: &Setting, most: impl Fn(usize) -> usize) -> Tensor {
    let mut x = set.x.clone();
    let mut answers: Vec<Tensor> = Vec::new();
    for (i, pair) in TIMES.windows(2).enumerate() {
        let (t, s) = (pair[0], pair[1]);
        let h = set.lambda(s) - set.lambda(t);
        answers.insert(0, set.data(&x, t));
        let r = |j: usize| (set.lambda(TIMES[i - j]) - set.lambda(TIMES[i - j - 1])) / h;
        let phi_1 = (-h).exp_m1();
        let base = [(set.sigma(s) / set.sigma(t), &x), (-set.alpha(s) * phi_1, &answers[0])];
        x = match most(i).min(i + 1) {
            1 => sum(&base),
            2 => {
                let d = sum(&[(1.0 + 0.5 / r(0), &answers[0]), (-0.5 / r(0), &answers[1])]);
                sum(&[base[0], (-set.alpha(s) * phi_1, &d)])
            }
            _ => {
                let d_0 = &(&answers[0] - &answers[1]) * (1.0 / r(0));
                let d_1 = &(&answers[1] - &answers[2]) * (1.0 / r(1));
                let second = &(&d_0 - &d_1) * (1.0 / (r(0) + r(1)));
                let first = sum(&[(1.0, &d_0), (r(0), &second)]);
                let (phi_2, phi_3) = (phi_1 / h + 1.0, (phi_1 / h + 1.0) / h - 0.5);
                sum(&[base[0], base[1], (set.alpha(s) * phi_2, &first), (-set.alpha(s) * phi_3, &second)])
            }
        };
    }
    x
}

#[test]
fn unipc_is_algorithms_1_and_2_of_zhao_et_al() {
    let set = Setting::new(&TIMES);
    for variant in [UniPcVariant::Bh1, UniPcVariant::Bh2] {
        let mut x = set.x.clone();
        let mut before: Option<(f64, Tensor)> = None;
        let mut answers: Vec<(f64, Tensor)> = Vec::new();
        let b = |h: f64| if variant == UniPcVariant::Bh1 { -h } else { (-h).exp_m1() };
        for (i, pair) in TIMES.windows(2).enumerate() {
            let (t, s) = (pair[0], pair[1]);
            let q = set.data(&x, t);
            if let Some((start, from)) = before.take() {
                // The corrector over the step just made: of order 1 the first time, then of order 2.
                let h = set.lambda(t) - set.lambda(start);
                let phi_1 = (-h).exp_m1();
                let change = &q - &answers[0].1;
                let base = [(set.sigma(t) / set.sigma(start), &from), (-set.alpha(t) * phi_1, &answers[0].1)];
                x = if i == 1 {
                    sum(&[base[0], base[1], (-set.alpha(t) * b(h) * 0.5, &change)])
                } else {
                    // R a = b/B for a_1 at r_1 < 0 and a_2 at r_2 = 1, by Cramer's rule; hh = −h.
                    let (hh, r) = (-h, (set.lambda(answers[1].0) - set.lambda(start)) / h);
                    let phi = [phi_1 / hh - 1.0, (phi_1 / hh - 1.0) / hh - 0.5];
                    let right = [phi[0] / b(h), 2.0 * phi[1] / b(h)];
                    let a_2 = (right[1] - r * right[0]) / (1.0 - r);
                    let a_1 = right[0] - a_2;
                    let old = &(&answers[1].1 - &answers[0].1) * (1.0 / r);
                    let factor = -set.alpha(t) * b(h);
                    sum(&[base[0], base[1], (factor * a_1, &old), (factor * a_2, &change)])
                };
            }
            answers.insert(0, (t, q));
            before = Some((t, x.clone()));
            let h = set.lambda(s) - set.lambda(t);
            let base = [(set.sigma(s) / set.sigma(t), &x), (-set.alpha(s) * (-h).exp_m1(), &answers[0].1)];
            x = if i == 0 || i == 4 {
                sum(&base)
            } else {
                let r = (set.lambda(answers[1].0) - set.lambda(t)) / h;
                let old = &(&answers[1].1 - &answers[0].1) * (1.0 / r);
                sum(&[base[0], base[1], (-set.alpha(s) * b(h) * 0.5, &old)])
            };
        }
        assert_same(&set.run(UniPc { variant, ..UniPc::default() }), &x);
    }
}

#[test]
fn deis_and_lms_integrate_lagrange_polynomials_of_the_noise() {
    let set = Setting::new(&TIMES);
    let rho = |t: f64| set.sigma(t) / set.alpha(t);
    for (solver, place) in [
        (SolverConfig::from(Deis { order: 3, ..Deis::default() }), (|_, t| t) as fn(&Setting, f64) -> f64),
        (Deis { order: 3, variable: Variable::Sigma, ..Deis::default() }.into(), |set, t| set.sigma(t) / set.alpha(t)),
        (Deis { order: 3, variable: Variable::LogSnr, ..Deis::default() }.into(), |set, t| set.lambda(t)),
        (Lms { order: 3 }.into(), |set, t| set.sigma(t) / set.alpha(t)),
    ] {
        let mut x = set.x.clone();
        let mut answers: Vec<(f64, Tensor)> = Vec::new();
        for pair in TIMES.windows(2) {
            let (t, s) = (pair[0], pair[1]);
            answers.insert(0, (t, set.noise(&x, t)));
            answers.truncate(3);
            let nodes: Vec<f64> = answers.iter().map(|(t, _)| place(&set, *t)).collect();
            // The trapezoidal rule in ρ on many intervals, extrapolated once.
            let weight = |j: usize, n: usize| {
                let value = |k: usize| {
                    let level = rho(t) + k as f64 / n as f64 * (rho(s) - rho(t));
                    let p = place(&set, set.time(-level.ln()));
                    let others = nodes.iter().enumerate().filter(|(i, _)| *i != j);
                    others.map(|(_, node)| (p - node) / (nodes[j] - node)).product::<f64>()
                };
                (0..n).map(|k| 0.5 * (value(k) + value(k + 1))).sum::<f64>() * (rho(s) - rho(t)) / n as f64
            };
            let mut next = &x * (set.alpha(s) / set.alpha(t));
            for (j, (_, q)) in answers.iter().enumerate() {
                let integral = (4.0 * weight(j, 2000) - weight(j, 1000)) / 3.0;
                next = &next + &(q * (set.alpha(s) * integral));
            }
            x = next;
        }
        let difference = max_difference(&set.run(solver.clone()), &x);
        assert!(difference < 1e-9, "{solver:?}: {difference:e}");
    }
}

#[test]
fn pndm_and_ipndm_are_equations_11_to_13_of_liu_et_al() {
    let set = Setting::new(&TIMES);
    let numbers: [&[f64]; 4] =
        [&[1.0], &[1.5, -0.5], &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0], &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0]];
    let run = |start: &str| {
        let mut x = set.x.clone();
        let mut answers: Vec<Tensor> = Vec::new();
        for (i, pair) in TIMES.windows(2).enumerate() {
            let (t, s) = (pair[0], pair[1]);
            let e = set.noise(&x, t);
            answers.insert(0, e.clone());
            let used = if start == "pndm" && i < 3 {
                let middle = 0.5 * (t + s);
                let e_2 = set.noise(&set.transfer(&x, &e, t, middle), middle);
                let e_3 = set.noise(&set.transfer(&x, &e_2, t, middle), middle);
                let e_4 = set.noise(&set.transfer(&x, &e_3, t, s), s);
                sum(&[(1.0 / 6.0, &e), (1.0 / 3.0, &e_2), (1.0 / 3.0, &e_3), (1.0 / 6.0, &e_4)])
            } else if start == "plms" && i == 0 {
                sum(&[(0.5, &e), (0.5, &set.noise(&set.transfer(&x, &e, t, s), s))])
            } else {
                let numbers = numbers[answers.len().min(4) - 1];
                sum(&numbers.iter().copied().zip(&answers).collect::<Vec<_>>())
            };
            x = set.transfer(&x, &used, t, s);
        }
        x
    };
    assert_same(&set.run(Pndm::default()), &run("pndm"));
    assert_same(&set.run(Pndm { warm_up: WarmUp::Plms }), &run("plms"));
    assert_same(&set.run(Ipndm::default()), &run("ipndm"));
}

#[test]
fn the_exact_engine_contains_what_it_says() {
    let set = Setting::new(&TIMES);
    let adams = ExponentialAdams { lower_order_final: LowerOrderFinal::Never, ..ExponentialAdams::default() };
    let noise = ExponentialAdams { prediction: Prediction::Noise, ..adams.clone() };
    assert_same(&set.run(noise), &set.run(Deis { order: 3, variable: Variable::LogSnr, ..Deis::default() }));
    // The paper's 2M is not the exact method of order 2.
    let two = ExponentialAdams { order: 2, ..adams.clone() };
    assert!(
        max_difference(&set.run(two), &set.run(DpmPpMultistep { lower_order_final: LowerOrderFinal::Never, order: 2 })) > 1e-4
    );
    let velocity = ExponentialAdams { order: 1, prediction: Prediction::Velocity, variable: Variable::T, ..adams.clone() };
    assert_same(&set.run(velocity), &set.run(fokker_solve::Euler::default()));
    assert_same(&set.run(ExponentialAdams { order: 1, ..adams }), &set.run(fokker_solve::Ddim::default()));
}

#[test]
fn numbers_and_starts_that_make_no_sense_are_refused_with_what_to_use_instead() {
    let adams = ExponentialAdams::default();
    let bad: [(SolverConfig, &str); 8] = [
        (ExponentialAdams { order: 0, ..adams.clone() }.into(), "order"),
        (ExponentialAdams { order: 9, ..adams.clone() }.into(), "from 1 to 8, found 9"),
        (ExponentialAdams { prediction: Prediction::Velocity, ..adams }.into(), "`t`"),
        (Deis { order: 5, ..Deis::default() }.into(), "order"),
        (Lms { order: 0 }.into(), "order"),
        (DpmSolver { order: 4 }.into(), "order"),
        (DpmPpMultistep { order: 4, ..DpmPpMultistep::default() }.into(), "order"),
        (UniPc { prediction: Prediction::Velocity, ..UniPc::default() }.into(), "exponential-adams"),
    ];
    for (solver, expected) in bad {
        let message = solver.check().unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(solver.name()), "{message}");
    }
    let flow = fokker_sde::LinearFlow::default();
    let model = mixture(flow.clone());
    for solver in oracle::solvers(fokker_solve::Kind::Ode) {
        let grid = Grid::new(vec![1.0, 0.5], true, &flow).unwrap();
        match Sampler::new(&model, solver.clone(), grid) {
            Ok(_) => assert!(solver.takes_pure_noise(), "{solver:?}"),
            Err(error) => {
                assert!(!solver.takes_pure_noise(), "{solver:?}");
                let message = error.to_string();
                assert!(message.contains("alpha = 0") && message.contains("use `dpmpp-multistep`"), "{message}");
            }
        }
    }
}
