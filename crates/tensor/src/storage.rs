//! Where a tensor's elements live.

use std::sync::Arc;

use crate::bf16::Bf16;
use crate::element::{Dtype, Stored};
use crate::pool::Pool;

/// A device tensors can live on. CUDA joins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The host.
    Cpu,
}

/// Elements on one of the devices, matched once per op.
#[derive(Clone)]
pub(crate) enum Storage {
    Cpu(CpuStorage),
}

/// Elements in host memory.
#[doc(hidden)]
#[derive(Clone)]
pub enum CpuStorage {
    Bf16(Arc<Buffer<Bf16>>),
    F32(Arc<Buffer<f32>>),
    F64(Arc<Buffer<f64>>),
}

/// A host buffer that goes back to the pool when dropped.
#[doc(hidden)]
pub struct Buffer<T: Stored> {
    data: Vec<T>,
    pooled: bool,
}

impl<T: Stored> Buffer<T> {
    /// `len` elements with unspecified values: the caller writes every one.
    pub(crate) fn uninit(len: usize) -> Self {
        Buffer { data: T::pool().take(len), pooled: true }
    }

    pub(crate) fn from_vec(data: Vec<T>) -> Self {
        Buffer { data, pooled: false }
    }

    pub(crate) fn into_vec(mut self) -> Vec<T> {
        let data = std::mem::take(&mut self.data);
        if self.pooled {
            T::pool().release(&data);
            self.pooled = false;
        }
        data
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.data
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T: Stored> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.pooled {
            T::pool().give(std::mem::take(&mut self.data));
        }
    }
}

impl CpuStorage {
    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            CpuStorage::Bf16(_) => Dtype::Bf16,
            CpuStorage::F32(_) => Dtype::F32,
            CpuStorage::F64(_) => Dtype::F64,
        }
    }
}

macro_rules! element {
    ($t:ty, $variant:ident, $from_f64:expr, $to_f64:expr) => {
        impl Stored for $t {
            const DTYPE: Dtype = Dtype::$variant;
            #[inline(always)]
            fn from_f64(x: f64) -> $t {
                let from_f64: fn(f64) -> $t = $from_f64;
                from_f64(x)
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                let to_f64: fn($t) -> f64 = $to_f64;
                to_f64(self)
            }
            fn pool() -> &'static Pool<Self> {
                static POOL: Pool<$t> = Pool::new();
                &POOL
            }
            fn unwrap_storage(storage: &CpuStorage) -> Option<&Arc<Buffer<Self>>> {
                match storage {
                    CpuStorage::$variant(buffer) => Some(buffer),
                    _ => None,
                }
            }
            fn unwrap_storage_mut(storage: &mut CpuStorage) -> Option<&mut Arc<Buffer<Self>>> {
                match storage {
                    CpuStorage::$variant(buffer) => Some(buffer),
                    _ => None,
                }
            }
            fn wrap_storage(buffer: Buffer<Self>) -> CpuStorage {
                CpuStorage::$variant(Arc::new(buffer))
            }
        }
    };
}
element!(Bf16, Bf16, Bf16::from_f64, |x| f64::from(x.to_f32()));
element!(f32, F32, |x| x as f32, f64::from);
element!(f64, F64, |x| x, |x| x);
