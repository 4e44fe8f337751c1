//! The binary: parses, wires, prints.

mod up;

fn main() {}
