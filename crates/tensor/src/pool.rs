//! Recycled host buffers.
//!
//! Fresh pages cost more than most kernels (the kernel zeroes them, one fault per 4 KiB), and a training
//! step asks for the same sizes again and again. A dropped buffer goes back to a free list by size
//! class, and serves requests of up to a quarter less. Buffers in use and cached together stay within 3/2 of the most that was ever needed at
//! once: where a new one would exceed that, a request gets the smallest buffer that is free and large enough, however large it is. Giving
//! back pages for it would only make a later request fault them in again, and so on for as long as a network runs: its sizes at full
//! resolution, the next level, and so on, do not all fit within the limit side by side, though never more than one level is at work.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::{Bf16, Stored};

#[doc(hidden)]
pub struct Pool<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    free: BTreeMap<usize, Vec<Vec<T>>>,
    /// Elements that buffers in use and cached ones have room for.
    in_use: usize,
    cached: usize,
    /// Elements of the classes that were asked for by those who use buffers: at most `in_use`.
    needed: usize,
    most_needed: usize,
    allocated: u64,
}

/// The memory that tensors take on the host, as of [`memory`]. Elements that were handed over in a vector are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of buffers in use.
    pub in_use: usize,
    /// Bytes of buffers that wait to be used again.
    pub cached: usize,
    /// Buffers that were allocated since the program started, because none of those that waited fitted. In steady state, as from one training
    /// step or one step of a solver to the next, there are no more.
    pub allocated: u64,
}

/// What the buffers of tensors, and of operations at work, take now.
pub fn memory() -> Memory {
    let parts = [Bf16::pool().memory(), f32::pool().memory(), f64::pool().memory()];
    parts.into_iter().fold(Memory::default(), |all, part| Memory {
        in_use: all.in_use + part.in_use,
        cached: all.cached + part.cached,
        allocated: all.allocated + part.allocated,
    })
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
        let state = State { free: BTreeMap::new(), in_use: 0, cached: 0, needed: 0, most_needed: 0, allocated: 0 };
        Pool { state: Mutex::new(state) }
    }

    fn memory(&self) -> Memory {
        let state = self.state.lock().expect("pool lock");
        Memory { in_use: state.in_use * size_of::<T>(), cached: state.cached * size_of::<T>(), allocated: state.allocated }
    }

    /// A vector of `len` elements with unspecified values.
    pub(crate) fn take(&self, len: usize) -> Vec<T> {
        let class = class_of(len);
        let (found, dropped) = {
            let mut state = self.state.lock().expect("pool lock");
            state.needed += class;
            state.most_needed = state.most_needed.max(state.needed);
            let found = state.pop(class, class + class / 4);
            let found = if found.is_none() && state.exceeds_limit(class) { state.pop(class, usize::MAX) } else { found };
            let dropped = if found.is_some() { Vec::new() } else { state.evict(class) };
            state.in_use += found.as_ref().map_or(class, Vec::capacity);
            (found, dropped)
        };
        // Unmapping pages is slow: done after the lock is released.
        drop(dropped);
        let mut buffer = found.unwrap_or_else(|| vec![T::default(); class]);
        buffer.truncate(len);
        buffer
    }

    /// Takes back a vector that [`take`](Self::take) made.
    pub(crate) fn give(&self, mut buffer: Vec<T>) {
        let (needed, room) = (class_of(buffer.len()), buffer.capacity());
        // SAFETY: `take` allocated this vector with `room` initialised elements (`vec![_; room]` has
        // exactly that capacity) and only `truncate` has shortened it since; `T: Copy` has no destructor, so
        // the elements past the length are still initialised.
        unsafe { buffer.set_len(room) };
        let mut state = self.state.lock().expect("pool lock");
        state.in_use -= room;
        state.needed -= needed;
        state.cached += room;
        state.free.entry(room).or_default().push(buffer);
    }

    /// Forgets a vector that left the pool for good.
    pub(crate) fn release(&self, buffer: &Vec<T>) {
        let mut state = self.state.lock().expect("pool lock");
        state.in_use -= buffer.capacity();
        state.needed -= class_of(buffer.len());
    }
}

impl<T> State<T> {
    /// The smallest free buffer of at least and at most so many elements.
    fn pop(&mut self, least: usize, most: usize) -> Option<Vec<T>> {
        let buffer = self.free.range_mut(least..=most).find_map(|(_, buffers)| buffers.pop())?;
        self.cached -= buffer.capacity();
        Some(buffer)
    }

    /// Whether one more buffer of this class would be too much.
    fn exceeds_limit(&self, class: usize) -> bool {
        self.in_use + self.cached + class > self.most_needed + self.most_needed / 2
    }

    /// Makes room for a buffer of this class that is about to be allocated.
    fn evict(&mut self, class: usize) -> Vec<Vec<T>> {
        let mut dropped = Vec::new();
        while self.exceeds_limit(class) {
            let Some((&room, buffers)) = self.free.iter_mut().rev().find(|(_, b)| !b.is_empty()) else { break };
            dropped.push(buffers.pop().expect("not empty"));
            self.cached -= room;
        }
        self.allocated += 1;
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
        let [large, small] = [class_of(1000), class_of(500)];
        assert_eq!(pool.memory(), Memory { in_use: 4 * small, cached: 4 * large, allocated: 2 });
        pool.release(&c);
        assert_eq!(pool.memory(), Memory { in_use: 0, cached: 4 * large, allocated: 2 });
    }

    #[test]
    fn cached_and_used_buffers_stay_within_three_halves_of_the_most_that_was_needed() {
        let pool = Pool::<f32>::new();
        for len in [10_000usize, 20_000, 40_000, 80_000, 50_000, 30_000] {
            let a = pool.take(len);
            pool.give(a);
            let state = pool.state.lock().unwrap();
            assert!(state.in_use + state.cached <= state.most_needed + state.most_needed / 2);
            assert_eq!((state.in_use, state.needed), (0, 0));
        }
    }

    #[test]
    fn sizes_that_do_not_fit_within_the_limit_side_by_side_are_served_without_allocating_again_and_again() {
        let pool = Pool::<f32>::new();
        // As a network's levels: two buffers of each size, one size after the other, down and up.
        let pass = || {
            for len in [80_000, 60_000, 40_000, 25_000, 16_000, 10_000, 16_000, 25_000, 40_000, 60_000] {
                let both = [pool.take(len), pool.take(len)];
                both.into_iter().for_each(|buffer| pool.give(buffer));
            }
        };
        (0..2).for_each(|_| pass());
        let before = pool.memory();
        (0..10).for_each(|_| pass());
        assert_eq!(pool.memory(), before);
        assert!(before.cached <= 4 * 3 * class_of(80_000), "{before:?}");
    }

    #[test]
    fn size_classes_waste_at_most_an_eighth() {
        for len in 65..5000 {
            let class = class_of(len);
            assert!(class >= len && class <= len + len / 8 + 16, "{len} -> {class}");
        }
    }
}
