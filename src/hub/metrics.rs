//! The metrics page, in Prometheus' text format (version 0.0.4): counts of every door, sessions, and the store.

use super::network::Network;
use crate::broker::{Broker, count};
use crate::mdns::State;
use crate::mirror::Meter;
use crate::net::Counters;
use crate::service::Service;
use std::fmt::Write;
use std::sync::Arc;

/// The counters of the listeners.
#[derive(Clone, Default)]
pub(super) struct Listeners {
    pub(super) https: Arc<Counters>,
    pub(super) http: Arc<Counters>,
    pub(super) mqtts: Arc<Counters>,
    pub(super) mqtt: Arc<Counters>,
}

/// The page. `not_provisioned`: how many of the brands and batches that the configuration names were not taken.
pub(super) fn page(
    broker: &Broker,
    service: &Service,
    listeners: &Listeners,
    network: &Network,
    cloud: &Meter,
    not_provisioned: usize,
) -> String {
    let mut out = String::new();
    let mut line = |name: &str, labels: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "hearthkey_{name}{labels} {value}");
    };
    for (name, c) in [("https", &listeners.https), ("http", &listeners.http), ("mqtts", &listeners.mqtts), ("mqtt", &listeners.mqtt)] {
        let label = format!("{{listener=\"{name}\"}}");
        line("connections_accepted_total", &label, count(&c.accepted));
        line("connections_refused_total", &label, count(&c.refused));
        line("handshakes_failed_total", &label, count(&c.handshake_failed));
        line("connections_active", &label, count(&c.active));
    }
    let c = broker.counters();
    for (name, counter) in [
        ("mqtt_signed_in_total", &c.signed_in),
        ("mqtt_sign_in_refused_total", &c.refused),
        ("mqtt_messages_received_total", &c.received),
        ("mqtt_messages_delivered_total", &c.delivered),
        ("mqtt_messages_dropped_total", &c.dropped),
        ("mqtt_publishes_denied_total", &c.publish_denied),
        ("mqtt_subscriptions_denied_total", &c.subscribe_denied),
    ] {
        line(name, "", count(counter));
    }
    let (sessions, online) = broker.session_counts();
    line("mqtt_sessions", "", sessions as u64);
    line("mqtt_sessions_online", "", online as u64);
    let (writes, commits) = service.write_counts();
    line("store_writes_total", "", writes);
    line("store_commits_total", "", commits);
    line("not_provisioned", "", not_provisioned as u64);
    line("retired", "", u64::from(service.is_retired()));
    line("review_pending", "", u64::from(*service.review().borrow()));
    line("mdns_announced", "", u64::from(matches!(&*network.state().borrow(), State::Announced(_))));
    let mirror = service.mirror_figures();
    line("mirror_linked", "", u64::from(mirror.linked));
    line("mirror_last_success_timestamp_seconds", "", mirror.last_success_s);
    line("mirror_policy_age_seconds", "", mirror.policy_age_ms / 1_000);
    for (what, waiting) in [("rows", mirror.pending.rows), ("marks", mirror.pending.marks), ("audit", mirror.pending.audit)] {
        line("mirror_pending", &format!("{{what=\"{what}\"}}"), waiting);
    }
    line("mirror_bytes_up_total", "", cloud.bytes_up());
    line("mirror_bytes_down_total", "", cloud.bytes_down());
    line("mirror_wakes_total", "", cloud.wakes());
    for (outcome, syncs) in cloud.outcomes() {
        line("mirror_syncs_total", &format!("{{outcome=\"{outcome}\"}}"), syncs);
    }
    line("mdns_things", "", network.things().borrow().len() as u64);
    out
}
