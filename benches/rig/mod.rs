//! What the benchmarks share: a load generator ([`load`]), the brokers it is pointed at as processes of their own
//! ([`process`], [`hub`], [`mosquitto`]), and numbers on paper ([`report`]). What is measured is each benchmark's.

#![allow(dead_code, reason = "each benchmark uses a part of the rig")]

pub mod hub;
pub mod load;
pub mod mosquitto;
pub mod process;
pub mod prototype;
pub mod report;

#[path = "../../tests/it/house.rs"]
pub mod house;

/// What the command line asks of a benchmark: `cargo bench --bench gate -- fan-out --quick`.
pub struct Arguments(Vec<String>);

impl Arguments {
    /// The process's arguments.
    pub fn read() -> Arguments {
        Arguments(std::env::args().skip(1).collect())
    }

    /// Whether a flag is given.
    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|a| a == flag)
    }

    /// Shorter and fewer runs, for a first look.
    pub fn quick(&self) -> bool {
        self.has("--quick")
    }

    /// The number after `prefix`.
    pub fn number(&self, prefix: &str) -> Option<usize> {
        self.0.iter().find_map(|a| a.strip_prefix(prefix)?.parse().ok())
    }

    /// Whether a case is asked for: all are, or its name contains one of the words given.
    pub fn wants(&self, case: &str) -> bool {
        let mut words = self.0.iter().filter(|a| !a.starts_with("--")).peekable();
        words.peek().is_none() || words.any(|w| case.contains(w.as_str()))
    }
}
