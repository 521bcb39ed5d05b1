//! Recycled host buffers.
//!
//! Fresh pages cost more than most kernels (the kernel zeroes them, one fault per 4 KiB), and a training
//! step asks for the same sizes again and again. A dropped buffer goes back to a free list by size
//! class, and serves requests of up to a quarter less. What is cached is bounded so that buffers in use and cached together stay
//! within 3/2 of the most that was ever in use at once: much less, and a step whose sizes do not all fit each other would
//! give back and fault in the same pages again and again.

use std::collections::BTreeMap;
use std::sync::Mutex;

#[doc(hidden)]
pub struct Pool<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    free: BTreeMap<usize, Vec<Vec<T>>>,
    in_use: usize,
    cached: usize,
    most_in_use: usize,
}

/// Rounds up to a size class: eight classes per power of two, so at most 1/8 is wasted.
fn class_of(len: usize) -> usize {
    if len <= 64 {
        return len.next_multiple_of(16).max(16);
    }
    let step = (len.next_power_of_two() / 16).max(16);
    len.next_multiple_of(step)
}

impl<T: Copy + Default> Pool<T> {
    pub(crate) const fn new() -> Self {
        Pool { state: Mutex::new(State { free: BTreeMap::new(), in_use: 0, cached: 0, most_in_use: 0 }) }
    }

    /// A vector of `len` elements with unspecified values.
    pub(crate) fn take(&self, len: usize) -> Vec<T> {
        let class = class_of(len);
        let (found, dropped) = {
            let mut state = self.state.lock().expect("pool lock");
            let found = state.free.range_mut(class..=class + class / 4).find_map(|(_, buffers)| buffers.pop());
            let taken = found.as_ref().map_or(class, Vec::capacity);
            state.in_use += taken;
            state.most_in_use = state.most_in_use.max(state.in_use);
            if found.is_some() {
                state.cached -= taken;
                (found, Vec::new())
            } else {
                (None, state.evict())
            }
        };
        // Unmapping pages is slow: done after the lock is released.
        drop(dropped);
        let mut buffer = found.unwrap_or_else(|| vec![T::default(); class]);
        buffer.truncate(len);
        buffer
    }

    /// Takes back a vector that [`take`](Self::take) made.
    pub(crate) fn give(&self, mut buffer: Vec<T>) {
        let class = buffer.capacity();
        // SAFETY: `take` allocated this vector with `class` initialised elements (`vec![_; class]` has
        // exactly that capacity) and only `truncate` has shortened it since; `T: Copy` has no destructor, so
        // the elements past the length are still initialised.
        unsafe { buffer.set_len(class) };
        let mut state = self.state.lock().expect("pool lock");
        state.in_use -= class;
        state.cached += class;
        state.free.entry(class).or_default().push(buffer);
    }

    /// Forgets a vector that left the pool for good.
    pub(crate) fn release(&self, buffer: &Vec<T>) {
        self.state.lock().expect("pool lock").in_use -= buffer.capacity();
    }
}

impl<T> State<T> {
    fn evict(&mut self) -> Vec<Vec<T>> {
        let mut dropped = Vec::new();
        let limit = self.most_in_use + self.most_in_use / 2;
        while self.in_use + self.cached > limit {
            let Some((&class, buffers)) = self.free.iter_mut().rev().find(|(_, b)| !b.is_empty()) else { break };
            dropped.push(buffers.pop().expect("not empty"));
            self.cached -= class;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_used_again() {
        let pool = Pool::<f32>::new();
        let a = pool.take(1000);
        let address = a.as_ptr();
        pool.give(a);
        let b = pool.take(850);
        assert_eq!(b.as_ptr(), address);
        assert_eq!(b.len(), 850);
        pool.give(b);
        let c = pool.take(500);
        assert_ne!(c.as_ptr(), address, "far smaller requests do not hold large buffers");
    }

    #[test]
    fn cached_and_used_buffers_stay_within_three_halves_of_the_peak() {
        let pool = Pool::<f32>::new();
        for len in [10_000usize, 20_000, 40_000, 80_000, 50_000, 30_000] {
            let a = pool.take(len);
            pool.give(a);
            let state = pool.state.lock().unwrap();
            assert!(state.in_use + state.cached <= state.most_in_use + state.most_in_use / 2);
        }
    }

    #[test]
    fn size_classes_waste_at_most_an_eighth() {
        for len in 65..5000 {
            let class = class_of(len);
            assert!(class >= len && class <= len + len / 8 + 16, "{len} -> {class}");
        }
    }
}
