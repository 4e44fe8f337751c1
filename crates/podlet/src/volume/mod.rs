//! Volumes that are made of objects: what is in them (pure), and how it gets there.

mod payload;
mod writer;

pub use self::payload::{Error, File, Files, Sources, TokenWanted, files, tokens_wanted};
pub use self::writer::{folder, write};
