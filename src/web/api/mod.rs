//! The calls, by what they are about. Each reads its request, asks the service, and writes the answer; none decides.

pub(super) mod access;
pub(super) mod accounts;
pub(super) mod apps;
pub(super) mod audit;
pub(super) mod backup;
pub(super) mod bindings;
pub(super) mod clones;
pub(super) mod commands;
pub(super) mod devices;
pub(super) mod firmware;
pub(super) mod handover;
pub(super) mod hub;
pub(super) mod invitations;
pub(super) mod mirror;
pub(super) mod oauth;
pub(super) mod pairing;
pub(super) mod people;
pub(super) mod recovery;
pub(super) mod registry;
pub(super) mod services;
pub(super) mod settings;
pub(super) mod support;
pub(super) mod system;
pub(super) mod twins;
pub(super) mod update;

use super::Context;
use super::{answer, caller, qr, refusal, request, schema};
use crate::net::problem::Problem;
use warp::reply::Response;

type Answered = Result<Response, Problem>;
