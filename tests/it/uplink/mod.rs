//! The way to the cloud.
mod cloud;
