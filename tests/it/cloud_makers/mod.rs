//! The cloud's side of makers and people, over a real PostgreSQL and HTTPS.

mod accounts;
mod batches;
mod home;
mod ledger;
mod releases;
mod rig;
mod upload;
