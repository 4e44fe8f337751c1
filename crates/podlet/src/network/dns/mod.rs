//! The names of a cluster, as its DNS specification has them.

mod answer;
mod server;
#[cfg(test)]
mod tests;
mod zone;

pub use self::answer::{Transport, answer};
pub use self::server::serve;
pub use self::zone::{Records, Zone};
