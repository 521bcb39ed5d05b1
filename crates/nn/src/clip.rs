//! Gradient clipping by global norm.

use fokker_tensor::update::squared_norm;

use crate::Module;

/// `√Σ g²` over every parameter, accumulated in `f64`.
pub fn global_norm<M: Module>(grads: &M) -> f64 {
    grads.tensors().iter().map(|g| squared_norm(g)).sum::<f64>().sqrt()
}

/// What gradients of this norm must be multiplied with so that their norm is at most `limit` (Pascanu et al. 2013, algorithm 1).
pub fn clip_scale(norm: f64, limit: f64) -> f64 {
    if norm > limit { limit / norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fokker_tensor::Tensor;

    #[test]
    fn clipped_gradients_have_the_limit_as_their_norm() {
        let grads = vec![Tensor::from_vec(&[2], vec![3.0f64, 0.0]), Tensor::from_vec(&[1], vec![4.0f64])];
        assert_eq!(global_norm(&grads), 5.0);
        assert_eq!(clip_scale(5.0, 1.0), 0.2);
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
    }
}
