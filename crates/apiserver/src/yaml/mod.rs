//! YAML as the real server reads and writes it: what it says of bodies that are none, and how it writes scalars, are
//! its decoder's and encoder's, YAML 1.1 included.

mod read;
mod write;

pub(crate) use read::{DUPLICATES, read};
pub(crate) use write::write;
