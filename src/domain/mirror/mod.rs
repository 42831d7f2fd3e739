//! The mirror between a hub and its cloud, as `docs/protocol/mirror.md` has it: what goes over the wire, who signed it, and
//! how two copies become one. Pure: both sides use it.

pub mod digest;
pub mod journal;
pub mod merge;
pub mod recovery;
pub mod signature;
pub mod statement;
pub mod wire;
