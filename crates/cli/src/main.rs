//! fokker
fn main() {}
