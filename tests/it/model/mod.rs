//! Rights against a naive reference: random histories of claiming, sharing, inviting, linking apps, taking away, handing on,
//! suspending, quarantine, resets, uses, time passing, a clock that is lost, and restarts, after each step of which every
//! right of every person, device and app must be what a simple-minded account of the same history says. No right survives
//! its end, and none is lost early. The account is `reference`'s, the hub `place`'s; replacing a device and parts of a
//! device (`only`) are tested elsewhere.

mod place;
mod reference;

use hearthkey::domain::account::Role;
use hearthkey::domain::policy::Action;
use place::Place;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use reference::Account;

const START: u64 = 1_800_000_000_000;
/// The grain of time in the histories: half a minute, so that windows, which know minutes, begin and end within them.
const GRAIN: u64 = 30_000;
const PEOPLE: usize = 5;
const DEVICES: usize = 3;
const ROLES: [Role; PEOPLE] = [Role::Owner, Role::Member, Role::Owner, Role::Member, Role::Guest];
/// Weekly windows: days on which they begin (Monday is 0), and minutes since midnight. The histories begin on a Friday at
/// 08:00.
const WINDOWS: [(&[u64], u64, u64); 4] = [(&[4], 480, 482), (&[4, 5], 481, 484), (&[3, 4], 22 * 60, 482), (&[0, 1, 2, 5, 6], 0, 0)];

/// Who may have a right. Apps are numbered in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Person(usize),
    Device(usize),
    App(usize),
}

/// Terms to give; times are grains from now, counted from 1.
#[derive(Clone, Copy, Debug)]
struct Offer {
    privilege: usize,
    from: Option<u64>,
    until: Option<u64>,
    window: Option<usize>,
    uses: Option<u32>,
}

/// What may happen. People, devices, apps and invitations are numbers; the last two of those there are, counted round.
#[derive(Clone, Debug)]
enum Step {
    Claim { by: usize, device: usize, complete: bool },
    Grant { by: usize, to: usize, device: usize, offer: Offer },
    Bind { by: usize, other: usize, device: usize, offer: Offer },
    Revoke { by: usize, of: Who, device: usize, with: bool },
    Take { by: usize, device: usize },
    Suspend { by: usize, device: usize, suspend: bool },
    Quarantine { device: usize },
    Lift { by: usize, device: usize },
    Remove { by: usize, device: usize },
    Reset { device: usize },
    Transfer { by: usize, to: usize, device: usize },
    Invite { by: usize, device: usize, offer: Offer, life: u64 },
    Withdraw { by: usize, invitation: usize },
    Accept { by: usize, invitation: usize },
    Link { by: usize, device: usize, privilege: usize, life: u64 },
    Unlink { by: usize, app: usize },
    Password { by: usize },
    Role { by: usize, of: usize, role: usize },
    End { by: usize, who: usize, with: bool },
    Use { by: Who, device: usize },
    Pass { grains: u64 },
    Clock { known: bool },
    Restart,
}

fn offers() -> impl Strategy<Value = Offer> {
    use proptest::option::weighted;
    let whole = (weighted(0.25, 1u64..8), weighted(0.25, 2u64..9));
    let whole = whole.prop_map(|(from, until)| Offer { privilege: 3, from, until, window: None, uses: None });
    let part = (0..4usize, weighted(0.2, 1u64..8), weighted(0.3, 1u64..9), weighted(0.3, 0..WINDOWS.len()), weighted(0.3, 1u32..4));
    let part = part.prop_map(|(privilege, from, until, window, uses)| Offer { privilege, from, until, window, uses });
    prop_oneof![whole, part]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (p, d, n) = (|| 0..PEOPLE, || 0..DEVICES, || 0..8usize);
    let who = || prop_oneof![4 => (0..PEOPLE).prop_map(Who::Person), 1 => (0..DEVICES).prop_map(Who::Device), 2 => (0..8usize).prop_map(Who::App)];
    let user = prop_oneof![2 => p().prop_map(Who::Person), 1 => n().prop_map(Who::App)];
    let sharing = prop_oneof![
        6 => (p(), p(), d(), offers()).prop_map(|(by, to, device, offer)| Step::Grant { by, to, device, offer }),
        3 => (p(), d(), d(), offers()).prop_map(|(by, other, device, offer)| Step::Bind { by, other, device, offer }),
        2 => (p(), d(), offers(), 2u64..7).prop_map(|(by, device, offer, life)| Step::Invite { by, device, offer, life }),
        3 => (p(), n()).prop_map(|(by, invitation)| Step::Accept { by, invitation }),
        4 => (p(), d(), 0..3usize, 1u64..20).prop_map(|(by, device, privilege, life)| Step::Link { by, device, privilege, life }),
    ];
    let taking = prop_oneof![
        5 => (p(), who(), d(), any::<bool>()).prop_map(|(by, of, device, with)| Step::Revoke { by, of, device, with }),
        1 => (p(), n()).prop_map(|(by, invitation)| Step::Withdraw { by, invitation }),
        2 => (p(), n()).prop_map(|(by, app)| Step::Unlink { by, app }),
        1 => p().prop_map(|by| Step::Password { by }),
        3 => (p(), p(), d()).prop_map(|(by, to, device)| Step::Transfer { by, to, device }),
        1 => (p(), d()).prop_map(|(by, device)| Step::Remove { by, device }),
        1 => d().prop_map(|device| Step::Reset { device }),
        1 => (p(), p(), any::<bool>()).prop_map(|(by, who, with)| Step::End { by, who, with }),
    ];
    let rest = prop_oneof![
        4 => (p(), d(), any::<bool>()).prop_map(|(by, device, complete)| Step::Claim { by, device, complete }),
        1 => (p(), d()).prop_map(|(by, device)| Step::Take { by, device }),
        2 => (p(), d(), any::<bool>()).prop_map(|(by, device, suspend)| Step::Suspend { by, device, suspend }),
        1 => d().prop_map(|device| Step::Quarantine { device }),
        2 => (p(), d()).prop_map(|(by, device)| Step::Lift { by, device }),
        2 => (p(), p(), 0..3usize).prop_map(|(by, of, role)| Step::Role { by, of, role }),
        5 => (user, d()).prop_map(|(by, device)| Step::Use { by, device }),
        6 => (1u64..6).prop_map(|grains| Step::Pass { grains }),
        1 => (1u64..9).prop_map(|quarters| Step::Pass { grains: quarters * 720 }),
        2 => prop_oneof![1 => Just(false), 2 => Just(true)].prop_map(|known| Step::Clock { known }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(prop_oneof![4 => sharing, 3 => taking, 4 => rest], 1..60)
}

#[test]
fn every_right_is_what_a_simple_account_of_the_history_says() {
    // More of them by hand: MODEL_CASES=400.
    #[expect(clippy::disallowed_methods, reason = "how long a test runs is no configuration of the hub")]
    let cases = std::env::var("MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { cases, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let mut place = Place::new().await;
            let mut account = Account::new();
            // Whatever else happens, something is there to share.
            let first = [(0, 0), (1, 1), (0, 2)].map(|(by, device)| Step::Claim { by, device, complete: true });
            for step in first.iter().chain(&steps) {
                if account.is_another_story(step) {
                    continue;
                }
                let (expected, did) = (account.apply(step), place.apply(step).await);
                prop_assert_eq!(did.is_ok(), expected, "{:?}: {:?}", step, did);
                for who in account.all() {
                    for (device, action) in (0..DEVICES).flat_map(|d| Action::ALL.map(|a| (d, a))) {
                        let expected = account.may(who, device, action);
                        prop_assert_eq!(place.may(who, device, action), expected, "{:?} {:?} {} after {:?}", who, action, device, step);
                    }
                }
            }
            Ok(())
        })
    });
    outcome.unwrap();
}
