//! The movie of a page: the way from noise to samples as pictures, a strip of them where no script runs.

use fokker_data::{Grid, Picture, Scatter};
use fokker_tensor::Tensor;
use fokker_train::evaluation::{Moment, Trajectory};

use crate::chart::short;

/// Pixels of a picture of points.
const SIDE: usize = 192;

/// Dark pixels between the state and the answer.
const GAP: usize = 6;

/// One picture for each moment: the states, each scaled to the size that data have, and beside them the model's answers.
///
/// ```text
/// s x_t/√(α² s² + σ²)      s: the size of data, ½ for pixels, the root mean square of the samples' coordinates for points
/// ```
pub(crate) fn frames(way: &Trajectory, reference: &Tensor) -> Vec<Picture> {
    let &[moments, both, count, ..] = way.states.shape() else { return Vec::new() };
    let shape = &way.states.shape()[2..];
    let part = |i: usize, c: usize| way.states.slice(0, i..i + 1).slice(1, c..c + 1).reshape(shape);
    let size = if shape.len() == 2 { root_mean_square(&part(moments - 1, 0)) } else { 0.5 };
    let view = (shape.len() == 2).then(|| {
        let view = Scatter { side: SIDE, blur: 1.5, ..Scatter::fitted(reference) };
        let brightest = view.brightest_of(reference) * count as f64 / reference.dim(0) as f64;
        Scatter { brightest: Some(brightest), ..view }
    });
    let draw = |x: &Tensor| view.as_ref().map_or_else(|| Picture::grid(x, &Grid::default()), |view| view.picture(x));
    let frame = |(i, Moment { alpha, sigma, .. }): (usize, &Moment)| {
        let state = draw(&(&part(i, 0) * (size / (alpha * size).hypot(*sigma))));
        if both == 2 { Picture::row(&[state, draw(&part(i, 1))], GAP) } else { state }
    };
    way.moments.iter().enumerate().map(frame).collect()
}

/// Never 0.
fn root_mean_square(x: &Tensor) -> f64 {
    let values = x.to_vec::<f64>();
    let mean = values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64;
    if mean > 0.0 { mean.sqrt() } else { 1.0 }
}

/// What is said of a moment.
pub(crate) fn caption(moment: &Moment, total: usize) -> String {
    let Moment { step, t, alpha, sigma } = *moment;
    if alpha == 1.0 && sigma == t {
        return format!("step {step} of {total}, σ = t = {}", short(t));
    }
    let noise = if alpha > 0.0 { short(sigma / alpha) } else { "∞".to_owned() };
    format!("step {step} of {total}, t = {}, σ/α = {noise}", short(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(step: usize, sigma: f64) -> Moment {
        Moment { step, t: sigma, alpha: 1.0, sigma }
    }

    #[test]
    fn noise_fills_the_frame_that_data_have_and_samples_are_as_they_are() {
        // Two images of one pixel: 80 times a half in noise of deviation 80, then 0.2.
        let states = Tensor::from_vec(&[2, 2, 1, 1, 1, 1], vec![40.0f32, -1.0, 0.2, 0.2]);
        let way = Trajectory { key: String::new(), total: 1, moments: vec![moment(0, 80.0), moment(1, 0.0)], states };
        let frames = frames(&way, &Tensor::from_vec(&[1, 1, 1, 1], vec![0.0f32]));
        let pixel = |i: usize, column: usize| frames[i].pixels()[2 * frames[i].width() + column];
        assert_eq!((frames.len(), frames[0].width(), frames[0].height()), (2, 5 + GAP + 5, 5));
        // A half, less the little that the data of size ½ add to the noise, is scaled to a half of a half.
        assert_eq!((pixel(0, 2), pixel(0, 5 + GAP + 2)), (159, 0));
        assert_eq!((pixel(1, 2), pixel(1, 5 + GAP + 2)), (153, 153));
        assert_eq!(caption(&moment(3, 80.0), 9), "step 3 of 9, σ = t = 80");
        assert_eq!(caption(&Moment { alpha: 0.5, sigma: 2.0, ..moment(1, 1.0) }, 2), "step 1 of 2, t = 1, σ/α = 4");
        assert_eq!(caption(&Moment { alpha: 0.0, ..moment(0, 1.0) }, 2), "step 0 of 2, t = 1, σ/α = ∞");
    }

    #[test]
    fn states_alone_are_pictures_too() {
        let states = Tensor::from_vec(&[1, 1, 3, 2], vec![0.5f32, 0.0, -0.5, 0.1, 0.2, 0.3]);
        let way = Trajectory { key: String::new(), total: 0, moments: vec![moment(0, 0.0)], states };
        let found = frames(&way, &Tensor::from_vec(&[2, 2], vec![1.0f32, 1.0, -1.0, -1.0]));
        assert_eq!((found.len(), found[0].width(), found[0].height()), (1, SIDE, SIDE));
    }
}
