//! Recording and differentiation.
//!
//! An op records a node only if one of its inputs is tracked. Nodes are numbered as they are
//! made, so the order of numbers is an order of evaluation: reverse mode walks the nodes that lead to a result
//! from the highest number down, forward mode from the lowest up; neither recurses. A node holds its parents, never its
//! children, and what it saves is stored without its own place in the graph, so graphs have no cycles and are freed with the
//! last tensor that leads to them.
//!
//! [`checkpoint`] saves memory for time: of a function only the inputs are kept, and its own graph is made when it is needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

mod checkpoint;

pub use checkpoint::checkpoint;

use crate::Dtype;
use crate::ops::binary::add_into;
use crate::tensor::Tensor;

/// A differentiable operation, as recorded.
///
/// `vjp` is computed outside any graph. `jvp` must be written with tensor operations on the saved tensors and
/// the tangents, so that a recorded JVP can itself be differentiated in reverse.
pub trait Op: Send + Sync + 'static {
    /// The name messages use.
    fn name(&self) -> &'static str;

    /// Which of the inputs and whether the output must be saved, given which inputs are tracked.
    fn keep(&self, tracked: &[bool]) -> Keep;

    /// Given the output's gradient, the gradient of each input that is `needed` (`None` for the others). Needed inputs are
    /// among those that were tracked when [`keep`](Op::keep) was asked.
    fn vjp(&self, saved: &Saved, grad: &Tensor, needed: &[bool]) -> Vec<Option<Tensor>>;

    /// [`vjp`](Op::vjp) for several gradients of the output, one list of results for each: an operation that can share work between
    /// them does better than one after the other.
    fn vjps(&self, saved: &Saved, grads: &[Tensor], needed: &[bool]) -> Vec<Vec<Option<Tensor>>> {
        grads.iter().map(|grad| self.vjp(saved, grad, needed)).collect()
    }

    /// Given the inputs' tangents (`None` is zero, at least one is not), the output's tangent.
    fn jvp(&self, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor;

    /// Whether `vjp` and `jvp` of tensors of `bf16` are called with all of them widened to `f32`, and what they give is rounded: so for
    /// all operations but those that only move elements, which say no.
    fn widens(&self) -> bool {
        true
    }
}

/// What an op asks to have saved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep {
    /// Bit `i` is set if input `i` is needed.
    pub inputs: u64,
    /// Whether the output is needed.
    pub output: bool,
}

impl Keep {
    /// Nothing.
    pub const NOTHING: Keep = Keep { inputs: 0, output: false };
    /// The output only.
    pub const OUTPUT: Keep = Keep { inputs: 0, output: true };

    /// These inputs.
    pub fn inputs(indices: &[usize]) -> Keep {
        Keep { inputs: indices.iter().map(|i| 1 << i).sum(), output: false }
    }
}

/// What was saved for one application of an op.
pub struct Saved {
    inputs: Vec<Option<Tensor>>,
    output: Option<Tensor>,
}

impl Saved {
    /// Input `i`, which [`Op::keep`] asked for.
    #[track_caller]
    pub fn input(&self, i: usize) -> &Tensor {
        self.inputs[i].as_ref().expect("the op did not ask to keep this input")
    }

    /// The output, which [`Op::keep`] asked for.
    #[track_caller]
    pub fn output(&self) -> &Tensor {
        self.output.as_ref().expect("the op did not ask to keep its output")
    }

    /// The same, in `f32`.
    fn widened(&self) -> Saved {
        let wide = |t: &Option<Tensor>| t.as_ref().map(|t| t.to(Dtype::F32));
        Saved { inputs: self.inputs.iter().map(wide).collect(), output: wide(&self.output) }
    }
}

/// A place in a graph: a leaf, or an op that was applied.
pub(crate) struct Node {
    id: u64,
    op: Option<Box<dyn Op>>,
    saved: Saved,
    parents: Vec<Option<Arc<Node>>>,
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Drop for Node {
    /// Frees a chain of any length without recursing.
    fn drop(&mut self) {
        let mut parents: Vec<Arc<Node>> = self.parents.drain(..).flatten().collect();
        while let Some(parent) = parents.pop() {
            if let Some(mut node) = Arc::into_inner(parent) {
                parents.extend(node.parents.drain(..).flatten());
            }
        }
    }
}

/// Puts `output` into the graph as the result of `op` on `inputs`, if any of them is tracked.
pub(crate) fn record(op: impl Op, inputs: &[&Tensor], mut output: Tensor) -> Tensor {
    debug_assert!(output.node.is_none());
    if inputs.iter().all(|t| t.node.is_none()) {
        return output;
    }
    let tracked: Vec<bool> = inputs.iter().map(|t| t.node.is_some()).collect();
    let keep = op.keep(&tracked);
    let saved = Saved {
        inputs: inputs.iter().enumerate().map(|(i, t)| (keep.inputs >> i & 1 == 1).then(|| t.detach())).collect(),
        output: keep.output.then(|| output.clone()),
    };
    let parents = inputs.iter().map(|t| t.node.clone()).collect();
    output.node = Some(Arc::new(Node { id: next_id(), op: Some(Box::new(op)), saved, parents }));
    output
}

impl Tensor {
    /// The same elements as a new leaf: what is computed from it is recorded, so that it can be differentiated.
    pub fn track(&self) -> Tensor {
        let saved = Saved { inputs: Vec::new(), output: None };
        let mut leaf = self.detach();
        leaf.node = Some(Arc::new(Node { id: next_id(), op: None, saved, parents: Vec::new() }));
        leaf
    }

    /// Whether operations on this tensor are recorded.
    pub fn is_tracked(&self) -> bool {
        self.node.is_some()
    }
}

/// The nodes that `root` was computed from and that depend on one of `leaves`, in the order they were made.
fn nodes_between(leaves: &[u64], root: &Arc<Node>) -> Vec<Arc<Node>> {
    let mut found: HashMap<u64, Arc<Node>> = HashMap::new();
    let mut stack = vec![root.clone()];
    let oldest_leaf = leaves.iter().copied().min().unwrap_or(0);
    while let Some(node) = stack.pop() {
        // What was made before every leaf cannot depend on one.
        if node.id < oldest_leaf || found.contains_key(&node.id) {
            continue;
        }
        stack.extend(node.parents.iter().flatten().cloned());
        found.insert(node.id, node);
    }
    let mut order: Vec<Arc<Node>> = found.into_values().collect();
    order.sort_unstable_by_key(|n| n.id);
    let mut depends: std::collections::HashSet<u64> = leaves.iter().copied().collect();
    order.retain(|node| {
        let kept = depends.contains(&node.id) || node.parents.iter().flatten().any(|p| depends.contains(&p.id));
        if kept {
            depends.insert(node.id);
        }
        kept
    });
    order
}

/// Adds gradients to what a node already has.
fn accumulate(grads: &mut HashMap<u64, Vec<Tensor>>, id: u64, more: Vec<Tensor>) {
    let sums = match grads.remove(&id) {
        None => more,
        Some(sums) => sums.into_iter().zip(more).map(|(sum, grad)| add_into(sum, grad)).collect(),
    };
    grads.insert(id, sums);
}

/// [`Op::vjp`] or [`Op::vjps`], in `f32` where the gradients are of `bf16`.
fn vjps(op: &dyn Op, saved: &Saved, grads: &[Tensor], needed: &[bool]) -> Vec<Vec<Option<Tensor>>> {
    let of = |saved: &Saved, grads: &[Tensor]| match grads {
        [grad] => vec![op.vjp(saved, grad, needed)],
        several => op.vjps(saved, several, needed),
    };
    if grads[0].dtype() != Dtype::Bf16 || !op.widens() {
        return of(saved, grads);
    }
    let wide: Vec<Tensor> = grads.iter().map(|grad| grad.to(Dtype::F32)).collect();
    let rounded = |grads: Vec<Option<Tensor>>| grads.into_iter().map(|grad| grad.map(|grad| grad.to(Dtype::Bf16))).collect();
    of(&saved.widened(), &wide).into_iter().map(rounded).collect()
}

/// [`Op::jvp`], in `f32` where tangents are of `bf16`.
fn jvp(op: &dyn Op, saved: &Saved, tangents: &[Option<Tensor>]) -> Tensor {
    if !op.widens() || tangents.iter().flatten().all(|t| t.dtype() != Dtype::Bf16) {
        return op.jvp(saved, tangents);
    }
    let tangents: Vec<Option<Tensor>> = tangents.iter().map(|t| t.as_ref().map(|t| t.to(Dtype::F32))).collect();
    op.jvp(&saved.widened(), &tangents).to(Dtype::Bf16)
}

/// Walks `order` backwards with these gradients at its last node, side by side. `leaves` keep their gradients; all else is freed on the
/// way.
fn reverse(mut order: Vec<Arc<Node>>, seeds: Vec<Tensor>, leaves: &[u64]) -> HashMap<u64, Vec<Tensor>> {
    let relevant: std::collections::HashSet<u64> = order.iter().map(|n| n.id).collect();
    let mut grads = HashMap::new();
    if let Some(last) = order.last() {
        grads.insert(last.id, seeds);
    }
    // `pop` lets go of each node as soon as it is done, and with it of what it saved.
    while let Some(node) = order.pop() {
        let Some(op) = &node.op else { continue };
        let kept = leaves.contains(&node.id);
        let Some(found) = (if kept { grads.get(&node.id).cloned() } else { grads.remove(&node.id) }) else { continue };
        let needed: Vec<bool> = node.parents.iter().map(|p| p.as_ref().is_some_and(|p| relevant.contains(&p.id))).collect();
        let mut input_grads = vjps(op.as_ref(), &node.saved, &found, &needed);
        debug_assert!(input_grads.iter().all(|g| g.len() == node.parents.len()), "{}: one gradient per input", op.name());
        drop(found);
        for (i, parent) in node.parents.iter().enumerate() {
            let Some(parent) = parent.as_ref().filter(|parent| relevant.contains(&parent.id)) else { continue };
            // An input has a gradient for each seed, or for none.
            if let Some(more) = input_grads.iter_mut().map(|grads| grads[i].take()).collect::<Option<Vec<Tensor>>>() {
                debug_assert!(more.iter().all(|grad| grad.node.is_none()), "{}: vjp must not record", op.name());
                accumulate(&mut grads, parent.id, more);
            }
        }
    }
    grads
}

#[track_caller]
fn leaf_id(leaf: &Tensor) -> u64 {
    leaf.node.as_ref().expect("differentiating with respect to a tensor that is not tracked").id
}

/// The gradients of `loss` (one element) with respect to each of `leaves`; zero for those it does not depend on.
///
/// Takes the loss, so that what was saved for the backward pass is freed while it runs.
///
/// # Panics
/// If `loss` has more than one element or a leaf is not tracked.
#[track_caller]
pub fn grad(loss: Tensor, leaves: &[&Tensor]) -> Vec<Tensor> {
    assert_eq!(loss.len(), 1, "grad: the loss has shape {:?}, not one element", loss.shape());
    let ids: Vec<u64> = leaves.iter().map(|t| leaf_id(t)).collect();
    let seed = Tensor::ones(loss.shape(), loss.dtype());
    let mut grads = match loss.node {
        None => HashMap::new(),
        Some(root) => {
            let order = nodes_between(&ids, &root);
            drop(root);
            reverse(order, vec![seed], &ids)
        }
    };
    leaves
        .iter()
        .zip(&ids)
        .map(|(leaf, id)| {
            let found = grads.remove(id).and_then(|mut found| found.pop());
            found.unwrap_or_else(|| Tensor::zeros(leaf.shape(), leaf.dtype()))
        })
        .collect()
}

/// Evaluates `f` at `x` and keeps its derivative there.
///
/// `f` may use tensors tracked elsewhere (a model's parameters, say): `y` and [`Jacobian::jvp_recorded`] then depend on
/// them too, and can be differentiated with respect to them.
pub fn linearize(f: impl FnOnce(&Tensor) -> Tensor, x: &Tensor) -> (Tensor, Jacobian) {
    let leaf = match &x.node {
        // Keeps the link to whatever x was computed from.
        Some(_) => crate::ops::shape::identity(x),
        None => x.track(),
    };
    let tracked_before = x.is_tracked();
    let y = f(&leaf);
    let id = leaf_id(&leaf);
    let order = y.node.as_ref().map_or_else(Vec::new, |root| nodes_between(&[id], root));
    let jacobian = Jacobian { leaf: id, order, x: x.detach(), y: y.detach() };
    // Where nothing but x itself was tracked, the result need not be.
    let foreign = tracked_before
        || jacobian.order.iter().any(|n| n.parents.iter().flatten().any(|p| p.id != id && !jacobian.contains(p.id)));
    let y = if foreign || jacobian.order.is_empty() { y } else { y.detach() };
    (y, jacobian)
}

/// The derivative of a function at a point, as a linear map. Both products can be taken any number of times.
pub struct Jacobian {
    leaf: u64,
    order: Vec<Arc<Node>>,
    x: Tensor,
    y: Tensor,
}

impl Jacobian {
    fn contains(&self, id: u64) -> bool {
        self.order.binary_search_by_key(&id, |n| n.id).is_ok()
    }

    /// `Jᵀ v`: `v` has the output's shape, the result the input's. Costs about two evaluations.
    ///
    /// # Panics
    /// If `v` has another shape than the output.
    #[track_caller]
    pub fn vjp(&self, v: &Tensor) -> Tensor {
        self.vjps(std::slice::from_ref(v)).remove(0)
    }

    /// [`vjp`](Self::vjp) of each of the vectors, side by side: linear layers turn and read their weights once for all, and a slope of an
    /// activation is computed once. Holds the intermediate gradients of all of them.
    ///
    /// # Panics
    /// If a vector has another shape than the output.
    #[track_caller]
    pub fn vjps(&self, vectors: &[Tensor]) -> Vec<Tensor> {
        for v in vectors {
            assert_eq!(
                v.shape(),
                self.y.shape(),
                "vjp: vector of shape {:?} for an output of shape {:?}",
                v.shape(),
                self.y.shape()
            );
        }
        if vectors.is_empty() {
            return Vec::new();
        }
        reverse(self.order.clone(), vectors.iter().map(Tensor::detach).collect(), &[self.leaf])
            .remove(&self.leaf)
            .unwrap_or_else(|| vec![Tensor::zeros(self.x.shape(), self.x.dtype()); vectors.len()])
    }

    /// `J u`: `u` has the input's shape, the result the output's. Costs about one evaluation. Not recorded.
    ///
    /// # Panics
    /// If `u` has another shape than the input.
    #[track_caller]
    pub fn jvp(&self, u: &Tensor) -> Tensor {
        self.forward(&u.detach(), false)
    }

    /// `J u`, recorded: the result can be differentiated in reverse, with respect to the input and to whatever else the
    /// function used that is tracked.
    ///
    /// # Panics
    /// If `u` has another shape than the input.
    #[track_caller]
    pub fn jvp_recorded(&self, u: &Tensor) -> Tensor {
        self.forward(u, true)
    }

    #[track_caller]
    fn forward(&self, u: &Tensor, recorded: bool) -> Tensor {
        assert_eq!(u.shape(), self.x.shape(), "jvp: vector of shape {:?} for an input of shape {:?}", u.shape(), self.x.shape());
        forward(&self.order, HashMap::from([(self.leaf, u.clone())]), recorded)
            .unwrap_or_else(|| Tensor::zeros(self.y.shape(), self.y.dtype()))
    }
}

/// Walks `order` forwards from the tangents of leaves; the tangent of the last node, `None` if it is zero.
fn forward(order: &[Arc<Node>], mut tangents: HashMap<u64, Tensor>, recorded: bool) -> Option<Tensor> {
    for node in order {
        let Some(op) = &node.op else { continue };
        // A leaf may be in the middle of a graph.
        if tangents.contains_key(&node.id) {
            continue;
        }
        let inputs: Vec<Option<Tensor>> =
            node.parents.iter().map(|p| p.as_ref().and_then(|p| tangents.get(&p.id).cloned())).collect();
        if inputs.iter().all(Option::is_none) {
            continue;
        }
        let tangent = if recorded { jvp(op.as_ref(), &node.attached(), &inputs) } else { jvp(op.as_ref(), &node.saved, &inputs) };
        tangents.insert(node.id, tangent);
    }
    order.last().and_then(|last| tangents.remove(&last.id))
}

impl Node {
    /// What was saved, back in its place in the graph.
    fn attached(self: &Arc<Self>) -> Saved {
        let inputs = self
            .saved
            .inputs
            .iter()
            .zip(&self.parents)
            .map(|(t, p)| t.as_ref().map(|t| Tensor { node: p.clone(), ..t.clone() }))
            .collect();
        let output = self.saved.output.as_ref().map(|t| Tensor { node: Some(self.clone()), ..t.clone() });
        Saved { inputs, output }
    }
}
