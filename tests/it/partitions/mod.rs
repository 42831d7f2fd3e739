//! Hub and cloud on two hosts, with everything between them that happens to networks, and everything to programs: what was
//! acknowledged is there in the end, and what was taken away never comes back.
//!
//! `PARTITION_SEED` repeats a plan, `PARTITION_ROUNDS` says how many rounds the long test has. The plan is the seed's; how
//! the programs' threads meet it is not.

mod acts;
pub mod chance;
mod doors;
mod hosts;
mod ledger;
mod machines;
mod rounds;
mod sight;

use hosts::Between;
use rounds::Home;

#[expect(clippy::disallowed_methods, reason = "how long a test runs, and which plan it has, is no configuration of the hub")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

fn seed() -> u64 {
    let seed = number("PARTITION_SEED").unwrap_or_else(|| getrandom::u64().unwrap() >> 16);
    #[expect(clippy::print_stderr, reason = "by this number it can be run again")]
    {
        eprintln!("PARTITION_SEED={seed}");
    }
    seed
}

async fn run(rounds: u64, on_two_hosts: bool) {
    let seed = seed();
    let between = Between::new(seed).await;
    assert!(!on_two_hosts || matches!(between, Between::Hosts(_)), "it takes network namespaces and TUN interfaces: run it as root");
    let mut home = Home::new(seed, between).await;
    home.rounds(rounds).await;
    home.tell();
    assert_eq!(home.figures.rounds, rounds);
}

#[tokio::test(flavor = "multi_thread")]
async fn through_cuts_losses_and_sudden_deaths_nothing_is_lost_and_nothing_comes_back() {
    run(4, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_in_an_exchange_the_line_is_cut_it_goes_on_after() {
    let mut home = Home::new(seed(), Between::relay().await).await;
    // A TLS handshake, the head and the body of a request, and of its answer.
    home.cuts([0, 1, 100, 600, 1_500, 2_500, 3_200, 4_000, 5_000, 7_000, 12_000].into_iter()).await;
    home.tell();
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "a promise was broken")]
async fn a_cloud_that_forgets_what_was_taken_away_is_found_out() {
    Home::new(seed(), Between::relay().await).await.forget_what_was_taken().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two hundred rounds take a quarter of an hour: tests/system/partitions.sh runs it, in make test-system"]
async fn through_two_hundred_rounds_nothing_is_lost_and_nothing_comes_back() {
    run(number("PARTITION_ROUNDS").unwrap_or(200), true).await;
}
