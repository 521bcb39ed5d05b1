//! The [`Module`] trait: a struct whose parameters can be visited by path.

use fokker_tensor::{Dtype, Tensor, grad};

/// The path of the parameter being visited: field names and indices, joined by dots (`blocks.2.conv.weight`).
#[derive(Default)]
pub struct Path {
    text: String,
}

impl Path {
    /// Visits with one more component.
    pub fn within(&mut self, name: &str, visit: impl FnOnce(&mut Path)) {
        let length = self.text.len();
        if length > 0 {
            self.text.push('.');
        }
        self.text.push_str(name);
        visit(self);
        self.text.truncate(length);
    }

    /// The path so far.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A value made of parameters. [`module!`](crate::module) implements it for a struct.
pub trait Module: Clone {
    /// Calls `f` with every parameter and its path, always in the same order.
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&str, &'a Tensor));

    /// Calls `f` with every parameter and its path, in the order of [`visit`](Self::visit).
    fn visit_mut<'a>(&'a mut self, path: &mut Path, f: &mut dyn FnMut(&str, &'a mut Tensor));

    /// Every parameter with its path.
    fn parameters(&self) -> Vec<(String, &Tensor)> {
        let mut all = Vec::new();
        self.visit(&mut Path::default(), &mut |path, t| all.push((path.to_owned(), t)));
        all
    }

    /// Every parameter.
    fn tensors(&self) -> Vec<&Tensor> {
        let mut all = Vec::new();
        self.visit(&mut Path::default(), &mut |_, t| all.push(t));
        all
    }

    /// Every parameter, for changing.
    fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        let mut all = Vec::new();
        self.visit_mut(&mut Path::default(), &mut |_, t| all.push(t));
        all
    }

    /// The number of scalars in all parameters.
    fn parameter_count(&self) -> usize {
        self.tensors().iter().map(|t| t.len()).sum()
    }

    /// The same structure with every parameter replaced by `f` of it.
    fn map(&self, mut f: impl FnMut(&Tensor) -> Tensor) -> Self {
        let mut copy = self.clone();
        copy.visit_mut(&mut Path::default(), &mut |_, t| *t = f(t));
        copy
    }

    /// The same structure with every parameter zero: where sums of gradients and moments start.
    fn zeros_like(&self) -> Self {
        self.map(|t| Tensor::zeros(t.shape(), t.dtype()))
    }

    /// The parameters converted to another type.
    fn to(&self, dtype: Dtype) -> Self {
        self.map(|t| t.to(dtype))
    }
}

impl Module for Tensor {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&str, &'a Tensor)) {
        f(path.as_str(), self);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, f: &mut dyn FnMut(&str, &'a mut Tensor)) {
        f(path.as_str(), self);
    }
}

impl<M: Module> Module for Option<M> {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&str, &'a Tensor)) {
        if let Some(module) = self {
            module.visit(path, f);
        }
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, f: &mut dyn FnMut(&str, &'a mut Tensor)) {
        if let Some(module) = self {
            module.visit_mut(path, f);
        }
    }
}

impl<M: Module> Module for Vec<M> {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&str, &'a Tensor)) {
        for (i, module) in self.iter().enumerate() {
            path.within(&i.to_string(), |path| module.visit(path, f));
        }
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, f: &mut dyn FnMut(&str, &'a mut Tensor)) {
        for (i, module) in self.iter_mut().enumerate() {
            path.within(&i.to_string(), |path| module.visit_mut(path, f));
        }
    }
}

/// Implements [`Module`] for a struct: `module!(Block { norm, conv })` names the fields that hold parameters; the others are
/// plain data.
#[macro_export]
macro_rules! module {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::Module for $name {
            fn visit<'a>(&'a self, path: &mut $crate::Path, f: &mut dyn FnMut(&str, &'a ::fokker_tensor::Tensor)) {
                $( path.within(stringify!($field), |path| self.$field.visit(path, f)); )*
            }

            fn visit_mut<'a>(&'a mut self, path: &mut $crate::Path, f: &mut dyn FnMut(&str, &'a mut ::fokker_tensor::Tensor)) {
                $( path.within(stringify!($field), |path| self.$field.visit_mut(path, f)); )*
            }
        }
    };
}

/// A loss and its gradient with respect to every parameter, as a value of the model's own type.
///
/// # Panics
/// If the loss has more than one element.
#[track_caller]
pub fn value_and_grad<M: Module>(model: &M, loss: impl FnOnce(&M) -> Tensor) -> (f64, M) {
    let mut tracked = model.map(Tensor::track);
    let loss = loss(&tracked);
    let value = loss.item();
    let grads = grad(loss, &tracked.tensors());
    for (t, g) in tracked.tensors_mut().into_iter().zip(grads) {
        *t = g;
    }
    (value, tracked)
}

/// `f` of a module and `inputs`, with only the inputs and the parameters kept for the backward pass: what lies between is computed once
/// more there. See [`fokker_tensor::checkpoint`].
///
/// # Panics
/// If the module has more than 64 parameters and inputs together.
#[track_caller]
pub fn checkpoint<M: Module + Send + Sync + 'static>(
    module: &M,
    inputs: &[&Tensor],
    f: impl Fn(&M, &[Tensor]) -> Tensor + Send + Sync + 'static,
) -> Tensor {
    let shape = module.map(Tensor::detach);
    let count = inputs.len();
    let all: Vec<&Tensor> = inputs.iter().copied().chain(module.tensors()).collect();
    fokker_tensor::checkpoint(
        move |all| {
            let mut module = shape.clone();
            for (parameter, given) in module.tensors_mut().into_iter().zip(&all[count..]) {
                *parameter = given.clone();
            }
            f(&module, &all[..count])
        },
        &all,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Pair {
        left: Tensor,
        right: Vec<Tensor>,
        absent: Option<Tensor>,
    }
    module!(Pair { left, right, absent });

    fn pair() -> Pair {
        let t = |v: f64| Tensor::full(&[2], v, Dtype::F64);
        Pair { left: t(1.0), right: vec![t(2.0), t(3.0)], absent: None }
    }

    #[test]
    fn paths_name_fields_and_indices() {
        let paths: Vec<String> = pair().parameters().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["left", "right.0", "right.1"]);
    }

    #[test]
    fn a_checkpointed_module_has_the_same_gradients() {
        let x = Tensor::full(&[2], 0.7, Dtype::F64);
        let f = |m: &Pair, x: &Tensor| &(&(x * &m.left).sin() * &m.right[0]) + &m.right[1];
        let plain = value_and_grad(&pair(), |m| f(m, &f(m, &x)).sum_all());
        let kept = value_and_grad(&pair(), |m| {
            let once = checkpoint(m, &[&x], move |m, t| f(m, &t[0]));
            checkpoint(m, &[&once], move |m, t| f(m, &t[0])).sum_all()
        });
        assert_eq!(kept.0, plain.0);
        for (kept, plain) in kept.1.tensors().iter().zip(plain.1.tensors()) {
            assert!((*kept - plain).abs().max_all().item() < 1e-14);
        }
    }

    #[test]
    fn gradients_have_the_models_structure() {
        let (value, grads) = value_and_grad(&pair(), |m| (&m.left * &m.right[1]).sum_all());
        assert_eq!(value, 6.0);
        assert_eq!(grads.left.to_vec::<f64>(), [3.0, 3.0]);
        assert_eq!(grads.right[0].to_vec::<f64>(), [0.0, 0.0]);
        assert_eq!(grads.right[1].to_vec::<f64>(), [1.0, 1.0]);
        assert!(grads.tensors().iter().all(|t| !t.is_tracked()));
    }
}
