//! The mirror between a hub and its cloud, as `docs/protocol/mirror.md` has it: what goes over the wire, and how two copies
//! become one. Pure: both sides use it.

pub mod wire;
