//! People and programs: who is away from home, who works for a maker, and what each may see and ask for.

pub(in crate::cloud) mod ask;
pub(in crate::cloud) mod away;
pub(in crate::cloud) mod bulletins;
pub(in crate::cloud) mod fleet;
pub(in crate::cloud) mod hand;
pub(in crate::cloud) mod home_calls;
pub(in crate::cloud) mod maker_calls;
pub(in crate::cloud) mod passwords;
pub(in crate::cloud) mod seen;
pub(in crate::cloud) mod services;
pub(in crate::cloud) mod tokens;
pub(in crate::cloud) mod vendors;
