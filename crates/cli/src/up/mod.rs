//! `clusterwright up`.
#![allow(dead_code)]

mod manifests;
mod readiness;
mod screen;
mod tree;
