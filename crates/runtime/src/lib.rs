//! An operator framework: queue, cache, controller, manager.
//!
//! It stands on kube's client, watcher and types, and owns what runs on them: a cache that all controllers share
//! ([`cache`]), a client that reads from it and writes past it ([`client`]), a queue with priorities and back-off
//! ([`queue`]), and controllers ([`controller`]) that a manager starts and stops in order ([`manager`]).
#![deny(missing_docs)]

pub mod audit;
pub mod cache;
pub mod client;
pub mod conditions;
pub mod config;
pub mod controller;
pub mod crd;
pub mod events;
pub mod fence;
mod finalizer;
pub mod health;
pub mod leader;
pub mod manager;
pub mod manifests;
pub mod metrics;
pub mod object;
pub mod owner;
pub mod predicate;
pub mod queue;
pub mod rbac;
pub mod reconcile;
pub mod telemetry;
