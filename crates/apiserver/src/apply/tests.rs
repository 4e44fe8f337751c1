//! What the real server does, told by example, and the laws that hold for all objects.

mod examples;
mod fixture;
mod laws;
mod refusals;
mod updates;
