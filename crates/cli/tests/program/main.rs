//! The program as its users meet it: each test runs the real binary.

#![cfg(unix)]

mod bad_data;
mod bad_input;
mod bad_runs;
mod evaluate;
mod features;
mod kill;
mod options;
mod sampling;
mod support;
