//! What the listeners share: certificates, TLS configuration and its reload, the
//! accept loop with limits and deadlines, problem details, and limits on guessing.
//!
//! This room knows no device, user or right: it imports nothing of the crate. Who
//! may sign in and what a connection speaks is left to the adapters.

pub mod authorities;
pub mod ca;
pub mod http;
pub mod listener;
pub mod problem;
pub mod ratelimit;
pub mod table;
pub mod tls;

pub use ca::{Ca, CaError, CaKey, Certificate, ServerKey, Validity};
pub use listener::{Counters, Limits, Peer, Security, Stream, serve};
pub use problem::Problem;
pub use ratelimit::SourceLimiter;
pub use tls::{TlsError, TlsReloader};
