//! Bundles and restored stores, without a network.
