//! The [`Tensor`]: a dense row-major array with a shape, a type and, where tracked, a place in a graph.

use std::sync::Arc;

use ndarray::{Array, ArrayD, ArrayViewD, Dimension, IxDyn};

use crate::Bf16;
use crate::element::{Dtype, Stored};
use crate::graph::Node;
use crate::lanes;
use crate::storage::{Buffer, CpuStorage, Device, Storage};

/// A dense, row-major array of `f32`, `f64` or `bf16`, channels last where it holds images.
///
/// Cloning shares the elements. Operations never change a tensor that something else can see.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) storage: Storage,
    pub(crate) shape: Arc<[usize]>,
    pub(crate) node: Option<Arc<Node>>,
}

/// Runs `$body` with `$t` standing for the element type of `$dtype`, one that is computed with.
macro_rules! by_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::Bf16 => $crate::tensor::refuse_bf16(),
            $crate::Dtype::F32 => {
                type $t = f32;
                $body
            }
            $crate::Dtype::F64 => {
                type $t = f64;
                $body
            }
        }
    };
}
pub(crate) use by_dtype;

/// Runs `$body` with `$t` standing for the element type of `$dtype`, whichever it is.
macro_rules! by_stored {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::Bf16 => {
                type $t = $crate::Bf16;
                $body
            }
            dtype => $crate::tensor::by_dtype!(dtype, $t => $body),
        }
    };
}
pub(crate) use by_stored;

#[track_caller]
pub(crate) fn refuse_bf16() -> ! {
    panic!("this is for f32 and f64: convert tensors of bf16 with `to(Dtype::F32)` first")
}

/// An operation on tensors of `bf16` that has no loops of its own for them: in `f32`, the result rounded.
#[track_caller]
pub(crate) fn in_f32<const N: usize>(inputs: [&Tensor; N], f: impl FnOnce([&Tensor; N]) -> Tensor) -> Tensor {
    let wide = inputs.map(|t| t.to(Dtype::F32));
    f(wide.each_ref()).to(Dtype::Bf16)
}

/// The number of elements of a shape; 1 for a scalar's empty shape.
pub(crate) fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

impl Tensor {
    /// A tensor of this shape owning `data` (no copy).
    ///
    /// # Panics
    /// If `data.len()` is not the product of `shape`.
    #[track_caller]
    pub fn from_vec<T: Stored>(shape: &[usize], data: Vec<T>) -> Tensor {
        assert_eq!(count(shape), data.len(), "from_vec: shape {shape:?} needs {} elements, got {}", count(shape), data.len());
        Tensor::from_buffer(shape, Buffer::from_vec(data))
    }

    /// A tensor of this shape and type from `f64` values, rounded where needed.
    ///
    /// # Panics
    /// If `data.len()` is not the product of `shape`.
    #[track_caller]
    pub fn from_f64(shape: &[usize], data: &[f64], dtype: Dtype) -> Tensor {
        by_stored!(dtype, T => Tensor::from_vec(shape, data.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>()))
    }

    pub(crate) fn from_buffer<T: Stored>(shape: &[usize], buffer: Buffer<T>) -> Tensor {
        debug_assert_eq!(count(shape), buffer.as_slice().len());
        Tensor { storage: Storage::Cpu(T::wrap_storage(buffer)), shape: shape.into(), node: None }
    }

    /// A new tensor whose elements `fill` writes; it must write every one.
    pub(crate) fn build<T: Stored>(shape: &[usize], fill: impl FnOnce(&mut [T])) -> Tensor {
        let mut buffer = Buffer::<T>::uninit(count(shape));
        fill(buffer.as_mut_slice());
        Tensor::from_buffer(shape, buffer)
    }

    /// Every element `value`.
    pub fn full(shape: &[usize], value: f64, dtype: Dtype) -> Tensor {
        by_stored!(dtype, T => Tensor::build::<T>(shape, |out| out.fill(T::from_f64(value))))
    }

    /// Every element 0.
    pub fn zeros(shape: &[usize], dtype: Dtype) -> Tensor {
        Tensor::full(shape, 0.0, dtype)
    }

    /// Every element 1.
    pub fn ones(shape: &[usize], dtype: Dtype) -> Tensor {
        Tensor::full(shape, 1.0, dtype)
    }

    /// A tensor of shape `[]`.
    pub fn scalar(value: f64, dtype: Dtype) -> Tensor {
        Tensor::full(&[], value, dtype)
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The extent of one axis.
    ///
    /// # Panics
    /// If there is no such axis.
    #[track_caller]
    pub fn dim(&self, axis: usize) -> usize {
        assert!(axis < self.rank(), "dim: axis {axis} of a tensor of shape {:?}", self.shape);
        self.shape[axis]
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        count(&self.shape)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match &self.storage {
            Storage::Cpu(storage) => storage.dtype(),
        }
    }

    /// The device the elements live on.
    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::Cpu(_) => Device::Cpu,
        }
    }

    /// The elements in row-major order.
    ///
    /// # Panics
    /// If the tensor holds another type.
    #[track_caller]
    pub fn as_slice<T: Stored>(&self) -> &[T] {
        let Storage::Cpu(storage) = &self.storage;
        match T::unwrap_storage(storage) {
            Some(buffer) => buffer.as_slice(),
            None => panic!("as_slice: asked for {} of a tensor of {}", T::DTYPE, self.dtype()),
        }
    }

    /// The elements for writing, copied first if anything else shares them. The tensor leaves the graph.
    #[track_caller]
    pub(crate) fn make_mut<T: Stored>(&mut self) -> &mut [T] {
        self.node = None;
        let dtype = self.dtype();
        let Storage::Cpu(storage) = &mut self.storage;
        let Some(buffer) = T::unwrap_storage_mut(storage) else {
            panic!("make_mut: asked for {} of a tensor of {dtype}", T::DTYPE)
        };
        if Arc::get_mut(buffer).is_none() {
            let mut copy = Buffer::<T>::uninit(buffer.as_slice().len());
            copy.as_mut_slice().copy_from_slice(buffer.as_slice());
            *buffer = Arc::new(copy);
        }
        Arc::get_mut(buffer).expect("just made unique").as_mut_slice()
    }

    /// Changes the elements in place, copying them first if anything else shares them. The tensor leaves the graph.
    ///
    /// # Panics
    /// If the tensor holds another type than `T`.
    #[track_caller]
    pub fn update<T: Stored>(&mut self, change: impl FnOnce(&mut [T])) {
        change(self.make_mut::<T>());
    }

    /// A copy of the elements in row-major order, converted to `T`.
    pub fn to_vec<T: Stored>(&self) -> Vec<T> {
        by_stored!(self.dtype(), S => self.as_slice::<S>().iter().map(|&x| T::from_f64(x.to_f64())).collect())
    }

    /// The only element of a tensor that has one.
    ///
    /// # Panics
    /// If there is not exactly one element.
    #[track_caller]
    pub fn item(&self) -> f64 {
        assert_eq!(self.len(), 1, "item: shape {:?} has {} elements, not one", self.shape, self.len());
        by_stored!(self.dtype(), T => self.as_slice::<T>()[0].to_f64())
    }

    /// Whether every element is finite.
    pub fn all_finite(&self) -> bool {
        if self.dtype() == Dtype::Bf16 {
            return self.as_slice::<Bf16>().iter().all(|x| x.to_f32().is_finite());
        }
        by_dtype!(self.dtype(), T => self.as_slice::<T>().chunks(4096).all(|x| lanes::dispatch(lanes::AllFinite { x })))
    }

    /// An `ndarray` view of the elements (no copy).
    ///
    /// # Panics
    /// If the tensor holds another type.
    #[track_caller]
    pub fn view<T: Stored>(&self) -> ArrayViewD<'_, T> {
        ArrayViewD::from_shape(IxDyn(&self.shape), self.as_slice::<T>()).expect("dense row-major")
    }

    /// The elements as an `ndarray` array; no copy if nothing else shares them.
    ///
    /// # Panics
    /// If the tensor holds another type.
    #[track_caller]
    pub fn into_array<T: Stored>(self) -> ArrayD<T> {
        let shape = self.shape.clone();
        ArrayD::from_shape_vec(IxDyn(&shape), self.into_vec::<T>()).expect("dense row-major")
    }

    /// The elements in row-major order; no copy if nothing else shares them.
    ///
    /// # Panics
    /// If the tensor holds another type.
    #[track_caller]
    pub fn into_vec<T: Stored>(self) -> Vec<T> {
        let copy = |t: &Tensor| t.as_slice::<T>().to_vec();
        if self.dtype() != T::DTYPE || self.node.is_some() {
            return copy(&self);
        }
        let Storage::Cpu(mut storage) = self.storage;
        let shared = T::unwrap_storage_mut(&mut storage).expect("type was checked");
        if Arc::get_mut(shared).is_none() {
            return shared.as_slice().to_vec();
        }
        let owned = std::mem::replace(shared, Arc::new(Buffer::from_vec(Vec::new())));
        match Arc::try_unwrap(owned) {
            Ok(buffer) => buffer.into_vec(),
            Err(shared) => shared.as_slice().to_vec(),
        }
    }

    /// The same elements with another shape, outside any graph.
    pub(crate) fn with_shape(&self, shape: &[usize]) -> Tensor {
        debug_assert_eq!(count(shape), self.len());
        Tensor { storage: self.storage.clone(), shape: shape.into(), node: None }
    }

    /// The same elements outside any graph: nothing computed from the result is recorded.
    pub fn detach(&self) -> Tensor {
        Tensor { storage: self.storage.clone(), shape: self.shape.clone(), node: None }
    }

    /// Whether nothing else shares the elements.
    pub(crate) fn is_unique(&mut self) -> bool {
        let Storage::Cpu(storage) = &mut self.storage;
        match storage {
            CpuStorage::Bf16(buffer) => Arc::get_mut(buffer).is_some(),
            CpuStorage::F32(buffer) => Arc::get_mut(buffer).is_some(),
            CpuStorage::F64(buffer) => Arc::get_mut(buffer).is_some(),
        }
    }
}

impl<T: Stored, D: Dimension> From<Array<T, D>> for Tensor {
    /// Takes the array's elements over; copies only if they are not in row-major order.
    fn from(array: Array<T, D>) -> Tensor {
        let shape = array.shape().to_vec();
        let data = if array.is_standard_layout() {
            let (data, offset) = array.into_raw_vec_and_offset();
            if offset.unwrap_or(0) == 0 && data.len() == count(&shape) {
                data
            } else {
                let offset = offset.unwrap_or(0);
                data[offset..offset + count(&shape)].to_vec()
            }
        } else {
            array.iter().copied().collect()
        };
        Tensor::from_vec(&shape, data)
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 8;
        write!(f, "Tensor<{}>{:?} ", self.dtype(), &self.shape)?;
        let values =
            by_stored!(self.dtype(), T => self.as_slice::<T>().iter().take(SHOWN).map(|&x| x.to_f64()).collect::<Vec<_>>());
        f.debug_list().entries(values).finish()?;
        if self.len() > SHOWN { f.write_str(" ...") } else { Ok(()) }
    }
}
