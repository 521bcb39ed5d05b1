//! Stand-in until the tensor crate lands.
#![allow(missing_docs)]
use ndarray_rand::rand::RngCore;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dtype {
    F32,
    F64,
}
#[derive(Clone, Debug)]
enum Buf {
    F32(Arc<Vec<f32>>),
    F64(Arc<Vec<f64>>),
}
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Vec<usize>,
    buf: Buf,
}
pub trait Element: Copy + 'static {
    const DT: Dtype;
    fn wrap(v: Vec<Self>) -> WB;
    fn get(b: &Tensor) -> &[Self];
    fn of(x: f64) -> Self;
    fn f(self) -> f64;
}
pub struct WB(Buf);
impl Element for f32 {
    const DT: Dtype = Dtype::F32;
    fn wrap(v: Vec<f32>) -> WB {
        WB(Buf::F32(Arc::new(v)))
    }
    fn get(b: &Tensor) -> &[f32] {
        match &b.buf {
            Buf::F32(v) => v,
            _ => panic!("dtype"),
        }
    }
    fn of(x: f64) -> f32 {
        x as f32
    }
    fn f(self) -> f64 {
        self as f64
    }
}
impl Element for f64 {
    const DT: Dtype = Dtype::F64;
    fn wrap(v: Vec<f64>) -> WB {
        WB(Buf::F64(Arc::new(v)))
    }
    fn get(b: &Tensor) -> &[f64] {
        match &b.buf {
            Buf::F64(v) => v,
            _ => panic!("dtype"),
        }
    }
    fn of(x: f64) -> f64 {
        x
    }
    fn f(self) -> f64 {
        self
    }
}
impl Tensor {
    #[track_caller]
    pub fn from_vec<T: Element>(shape: &[usize], data: Vec<T>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        Tensor { shape: shape.to_vec(), buf: T::wrap(data).0 }
    }
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    pub fn rank(&self) -> usize {
        self.shape.len()
    }
    pub fn dim(&self, i: usize) -> usize {
        self.shape[i]
    }
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    pub fn dtype(&self) -> Dtype {
        match self.buf {
            Buf::F32(_) => Dtype::F32,
            _ => Dtype::F64,
        }
    }
    pub fn as_slice<T: Element>(&self) -> &[T] {
        T::get(self)
    }
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        match &self.buf {
            Buf::F32(v) => v.iter().map(|x| T::of(x.f())).collect(),
            Buf::F64(v) => v.iter().map(|x| T::of(*x)).collect(),
        }
    }
    pub fn view<T: Element>(&self) -> ndarray::ArrayViewD<'_, T> {
        ndarray::ArrayViewD::from_shape(self.shape.clone(), T::get(self)).unwrap()
    }
}
pub struct PhiloxRng(u64);
impl RngCore for PhiloxRng {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E3779B97F4A7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
        z ^ (z >> 31)
    }
    fn fill_bytes(&mut self, d: &mut [u8]) {
        for c in d.chunks_mut(8) {
            let b = self.next_u64().to_le_bytes();
            c.copy_from_slice(&b[..c.len()]);
        }
    }
}
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    pub seed: u64,
    pub stream: u64,
}
impl Noise {
    pub fn new(seed: u64, stream: u64) -> Noise {
        Noise { seed, stream }
    }
    pub fn rng(&self, sample: u64, step: u32) -> PhiloxRng {
        let mut r = PhiloxRng(self.seed ^ 0xabc);
        let a = r.next_u64();
        r.0 = a ^ self.stream;
        let a = r.next_u64();
        r.0 = a ^ sample;
        let a = r.next_u64();
        r.0 = a ^ step as u64;
        r.next_u64();
        r
    }
}
