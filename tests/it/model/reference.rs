//! The simple-minded account: who has what from whom, in lists and loops. It knows nothing of marks, generations,
//! transactions or tables.

use super::{DEVICES, GRAIN, Offer, PEOPLE, ROLES, START, Step, WINDOWS, Who};
use hearthkey::domain::account::Role;
use hearthkey::domain::policy::Action;
use std::collections::{BTreeMap, BTreeSet};

/// What a right gives; times in ms since 1970, the privilege as a number from 0 to 3.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Terms {
    privilege: usize,
    from: Option<u64>,
    until: Option<u64>,
    window: Option<usize>,
    uses: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Right {
    terms: Terms,
    giver: Option<Who>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Thing {
    claimed: bool,
    /// It has signed in with what the claim gave it.
    complete: bool,
    suspended: bool,
    quarantined: bool,
}

#[derive(Debug)]
struct App {
    of: usize,
    until: u64,
    ended: bool,
}

#[derive(Debug)]
struct Invitation {
    by: usize,
    device: usize,
    terms: Terms,
    until: u64,
    open: bool,
}

#[derive(Debug)]
pub struct Account {
    now: u64,
    /// Whether anybody knows what time it is.
    known: bool,
    alive: [bool; PEOPLE],
    roles: [Role; PEOPLE],
    things: [Thing; DEVICES],
    apps: Vec<App>,
    invitations: Vec<Invitation>,
    /// By device and holder.
    rights: BTreeMap<(usize, Who), Right>,
}

const WHOLE: Terms = Terms { privilege: 3, from: None, until: None, window: None, uses: None };

impl Terms {
    fn of(offer: &Offer, now: u64) -> Terms {
        let at = |grains: u64| now + (grains - 1) * GRAIN;
        let Offer { privilege, window, uses, .. } = *offer;
        Terms { privilege, from: offer.from.map(at), until: offer.until.map(at), window, uses }
    }

    fn make_sense(&self, now: u64) -> bool {
        let ends_after_it_begins = self.until.is_none_or(|u| u > now && self.from.is_none_or(|f| f < u));
        let part = self.window.is_some() || self.uses.is_some();
        ends_after_it_begins && self.uses != Some(0) && !(self.privilege == 3 && part)
    }

    fn for_good(&self, now: u64) -> bool {
        self.until.is_none() && self.window.is_none() && self.uses.is_none() && self.from.is_none_or(|f| f <= now)
    }

    /// Whether who has `own` may give these.
    fn within(&self, own: &Terms, now: u64) -> bool {
        let longer = own.until.is_some_and(|end| self.until.is_none_or(|u| u > end));
        let earlier = own.from.is_some_and(|start| self.from.unwrap_or(now) < start);
        self.privilege <= own.privilege && !longer && !earlier && own.window.is_none() && own.uses.is_none()
    }

    /// Whether who has these needs not `other`.
    fn hold_all_of(&self, other: &Terms, now: u64) -> bool {
        let as_long = match (self.until, other.until) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others <= own,
        };
        let as_early = self.from.is_none_or(|own| own <= now || other.from.is_some_and(|others| own <= others));
        let as_often = match (self.uses, other.uses) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(others)) => others <= own,
        };
        let window = self.window.is_none() || self.window == other.window;
        self.privilege >= other.privilege && as_long && as_early && as_often && window
    }
}

/// Whether a weekly window holds, by a wall clock that shows UTC.
fn open(window: usize, now: u64) -> bool {
    let (days, from, to) = WINDOWS[window];
    let minutes = now / 60_000;
    let (minute, day) = (minutes % 1_440, (minutes / 1_440 + 3) % 7);
    // Every minute of the window, from each of the days on which it begins.
    let length = if to > from { to - from } else { 1_440 - from + to };
    days.iter().any(|begins| (0..length).any(|m| ((begins * 1_440 + from + m) % (7 * 1_440)) == day * 1_440 + minute))
}

impl Account {
    pub fn new() -> Account {
        Account {
            now: START,
            known: true,
            alive: [true; PEOPLE],
            roles: ROLES,
            things: [Thing::default(); DEVICES],
            apps: Vec::new(),
            invitations: Vec::new(),
            rights: BTreeMap::new(),
        }
    }

    pub fn all(&self) -> Vec<Who> {
        let people = (0..PEOPLE).map(Who::Person);
        people.chain((0..DEVICES).map(Who::Device)).chain((0..self.apps.len()).map(Who::App)).collect()
    }

    /// Steps that are tested elsewhere: a claim that fails counts as a guess, and guesses make wait; what nobody has claimed
    /// may be suspended too; nobody signs in to an account that has ended.
    pub fn is_another_story(&self, step: &Step) -> bool {
        match step {
            Step::Claim { device, .. } => self.is_bound(*device),
            Step::Suspend { device, .. } => !self.things[*device].claimed,
            Step::Quarantine { device } => !self.things[*device].claimed || self.is_shut_out(*device),
            Step::Password { by } => !self.alive[*by],
            Step::Accept { .. } | Step::Withdraw { .. } => self.invitations.is_empty(),
            Step::Unlink { .. } | Step::Use { by: Who::App(_), .. } | Step::Revoke { of: Who::App(_), .. } => self.apps.is_empty(),
            _ => false,
        }
    }

    fn is_bound(&self, device: usize) -> bool {
        self.things[device].claimed || self.is_shut_out(device)
    }

    fn is_shut_out(&self, device: usize) -> bool {
        self.things[device].suspended || self.things[device].quarantined
    }

    fn is_owner(&self, person: usize) -> bool {
        self.alive[person] && self.roles[person] == Role::Owner
    }

    fn is_last_owner(&self, person: usize) -> bool {
        self.is_owner(person) && (0..PEOPLE).filter(|p| self.is_owner(*p)).count() == 1
    }

    fn acts(&self, who: Who) -> bool {
        match who {
            Who::Person(p) => self.alive[p],
            Who::Device(d) => self.things[d].complete && !self.is_shut_out(d),
            Who::App(a) => {
                let app = &self.apps[a];
                !app.ended && self.now < app.until && self.alive[app.of] && self.roles[app.of] != Role::Guest
            }
        }
    }

    pub fn may(&self, who: Who, device: usize, action: Action) -> bool {
        let Some(right) = self.rights.get(&(device, who)) else { return false };
        let terms = &right.terms;
        let timed = terms.from.is_some() || terms.until.is_some() || terms.window.is_some();
        let holds = terms.from.is_none_or(|f| f <= self.now) && terms.until.is_none_or(|u| self.now < u);
        let in_window = terms.window.is_none_or(|w| open(w, self.now));
        let needed = match action {
            Action::View => 0,
            Action::Operate => 1,
            Action::OperateCritical | Action::Manage => 2,
            Action::Administer => 3,
        };
        let drives = matches!(action, Action::Operate | Action::OperateCritical);
        let thing = &self.things[device];
        let kept = match who {
            _ if thing.suspended => !drives,
            _ if !thing.quarantined => true,
            Who::Person(p) => self.is_owner(p),
            // An app is no owner, whoever it acts for.
            Who::App(_) | Who::Device(_) => false,
        };
        let persons = match who {
            Who::App(a) => self.may(Who::Person(self.apps[a].of), device, action),
            _ => true,
        };
        self.acts(who)
            && self.is_bound(device)
            && (self.known || !timed)
            && holds
            && in_window
            && needed <= terms.privilege
            && !(drives && terms.uses == Some(0))
            && kept
            && persons
    }

    fn administers(&self, person: usize, device: usize) -> bool {
        self.may(Who::Person(person), device, Action::Administer)
    }

    fn would_orphan(&self, device: usize, leaving: &BTreeSet<Who>) -> bool {
        let lasts = |r: &Right| r.terms.privilege == 3 && r.terms.for_good(self.now);
        let lasting = || self.rights.iter().filter(|((d, w), r)| *d == device && lasts(r) && matches!(w, Who::Person(_)));
        lasting().any(|((_, w), _)| leaving.contains(w)) && lasting().all(|((_, w), _)| leaving.contains(w))
    }

    /// Who got their right from `of`, and from those, and so on; never `spared`, nor through them.
    fn fed_by(&self, device: usize, of: Who, spared: Who) -> BTreeSet<Who> {
        let mut all = BTreeSet::new();
        loop {
            let from = |g: Who| g == of || all.contains(&g);
            let fed = |w: Who, r: &Right| w != of && w != spared && !all.contains(&w) && r.giver.is_some_and(from);
            let more: Vec<Who> = self.rights.iter().filter(|((d, w), r)| *d == device && fed(*w, r)).map(|((_, w), _)| *w).collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// Those, and the apps that act for any of them.
    fn with_apps(&self, mut whom: BTreeSet<Who>) -> BTreeSet<Who> {
        for (a, app) in self.apps.iter().enumerate() {
            if whom.contains(&Who::Person(app.of)) {
                whom.insert(Who::App(a));
            }
        }
        whom
    }

    /// Who administers no more has nothing to invite to.
    fn no_more_invited_by(&mut self, device: usize, who: Who) {
        for invitation in &mut self.invitations {
            invitation.open &= invitation.device != device || Who::Person(invitation.by) != who;
        }
    }

    fn take_away(&mut self, device: usize, who: Who) {
        if self.rights.remove(&(device, who)).is_some_and(|r| r.terms.privilege == 3) {
            self.no_more_invited_by(device, who);
        }
    }

    fn put(&mut self, device: usize, who: Who, terms: Terms, giver: Option<Who>) {
        let before = self.rights.insert((device, who), Right { terms, giver });
        if terms.privilege < 3 && before.is_some_and(|r| r.terms.privilege == 3) {
            self.no_more_invited_by(device, who);
        }
    }

    fn may_give(&self, by: usize, device: usize, terms: &Terms) -> bool {
        let own = self.rights.get(&(device, Who::Person(by)));
        terms.make_sense(self.now) && self.administers(by, device) && own.is_some_and(|own| terms.within(&own.terms, self.now))
    }

    fn grant(&mut self, by: usize, to: usize, device: usize, terms: Terms) -> bool {
        let lesser = terms.privilege < 3 || !terms.for_good(self.now);
        let orphans = lesser && self.would_orphan(device, &BTreeSet::from([Who::Person(to)]));
        let may = self.may_give(by, device, &terms) && self.alive[to] && !orphans;
        if may {
            self.put(device, Who::Person(to), terms, Some(Who::Person(by)));
        }
        may
    }

    /// Whether `from` may drive `to`, directly or through others, now or at another time.
    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut found = BTreeSet::from([from]);
        for _ in 0..DEVICES {
            for (device, holder) in self.rights.keys() {
                if matches!(holder, Who::Device(d) if found.contains(d)) {
                    found.insert(*device);
                }
            }
        }
        found.contains(&to)
    }

    fn forget(&mut self, device: usize) {
        let gone: Vec<(usize, Who)> = self.rights.keys().copied().filter(|(d, w)| *d == device || *w == Who::Device(device)).collect();
        for (d, who) in gone {
            self.take_away(d, who);
        }
        let thing = &mut self.things[device];
        (thing.claimed, thing.complete) = (false, false);
    }

    fn end_app(&mut self, app: usize) {
        self.apps[app].ended = true;
        self.rights.retain(|(_, w), _| *w != Who::App(app));
    }

    fn end_apps_of(&mut self, person: usize) {
        for app in 0..self.apps.len() {
            if self.apps[app].of == person {
                self.end_app(app);
            }
        }
    }

    fn accept(&mut self, by: usize, invitation: usize) -> bool {
        let Invitation { by: giver, device, terms, until, open } = self.invitations[invitation];
        if !(self.alive[by] && open && self.now < until && giver != by && self.may_give(giver, device, &terms)) {
            return false;
        }
        let live = |r: &&Right| r.terms.uses != Some(0) && r.terms.until.is_none_or(|u| self.now < u);
        let own = self.rights.get(&(device, Who::Person(by))).filter(live).map(|r| r.terms);
        let taken = match own {
            Some(own) if own == terms || terms.within(&own, self.now) => true,
            Some(own) if !own.within(&terms, self.now) => false,
            _ => self.grant(giver, by, device, terms),
        };
        self.invitations[invitation].open &= !taken;
        taken
    }

    fn transfer(&mut self, by: usize, to: usize, device: usize) -> bool {
        let (leaver, heir) = (Who::Person(by), Who::Person(to));
        if !self.administers(by, device) || !self.alive[to] || by == to {
            return false;
        }
        let own = self.rights[&(device, leaver)];
        let above = own.giver.filter(|g| *g != heir && *g != leaver).unwrap_or(heir);
        let leaving = self.with_apps(BTreeSet::from([leaver]));
        let has = self.rights.get(&(device, heir)).copied();
        let inherited = match has {
            Some(has) if has.terms.hold_all_of(&own.terms, self.now) => {
                Right { giver: if has.giver == Some(leaver) { Some(above) } else { has.giver }, ..has }
            }
            Some(has) if !own.terms.hold_all_of(&has.terms, self.now) => return false,
            _ => Right { terms: own.terms, giver: Some(above) },
        };
        self.rights.insert((device, heir), inherited);
        if self.would_orphan(device, &leaving) {
            match has {
                Some(has) => self.rights.insert((device, heir), has),
                None => self.rights.remove(&(device, heir)),
            };
            return false;
        }
        for ((d, who), right) in self.rights.clone() {
            let given = right.giver.is_some_and(|g| leaving.contains(&g));
            let between = match who {
                Who::Device(remote) if d == device => Some(remote),
                Who::Device(itself) if itself == device => Some(d),
                _ => None,
            };
            if (d != device && between.is_none()) || !given || who == heir || (d == device && leaving.contains(&who)) {
                continue;
            }
            if between.is_none_or(|other| self.administers(to, other)) {
                self.rights.insert((d, who), Right { giver: Some(heir), ..right });
            } else {
                self.take_away(d, who);
            }
        }
        for who in leaving {
            self.take_away(device, who);
        }
        true
    }

    fn revoke(&mut self, by: usize, of: Who, device: usize, with: bool) -> bool {
        let own = Who::Person(by) == of;
        if !(self.alive[by] && (own || self.administers(by, device))) || !self.rights.contains_key(&(device, of)) {
            return false;
        }
        let mut ending = if with && !own { self.fed_by(device, of, Who::Person(by)) } else { BTreeSet::new() };
        ending.insert(of);
        let ending = self.with_apps(ending);
        let may = !self.would_orphan(device, &ending);
        if may {
            ending.into_iter().for_each(|who| self.take_away(device, who));
        }
        may
    }

    fn end(&mut self, by: usize, who: usize, with: bool) -> bool {
        if !self.is_owner(by) || !self.alive[who] || self.is_last_owner(who) {
            return false;
        }
        for device in 0..DEVICES {
            let mut ending = if with { self.fed_by(device, Who::Person(who), Who::Person(by)) } else { BTreeSet::new() };
            ending.insert(Who::Person(who));
            self.with_apps(ending).into_iter().for_each(|w| self.take_away(device, w));
        }
        self.end_apps_of(who);
        self.invitations.iter_mut().for_each(|i| i.open &= i.by != who);
        self.alive[who] = false;
        true
    }

    fn link(&mut self, by: usize, device: usize, privilege: usize, life: u64) -> bool {
        let Some(own) = self.rights.get(&(device, Who::Person(by))).map(|r| r.terms) else { return false };
        let until = self.now + life * GRAIN;
        let terms = Terms { privilege, until: Some(own.until.map_or(until, |u| u.min(until))), ..own };
        let gives = self.is_bound(device) && privilege <= own.privilege && terms.make_sense(self.now);
        if !gives || !self.alive[by] || self.roles[by] == Role::Guest {
            return false;
        }
        self.rights.insert((device, Who::App(self.apps.len())), Right { terms, giver: Some(Who::Person(by)) });
        self.apps.push(App { of: by, until, ended: false });
        true
    }

    /// Each right that was needed is used once.
    fn spend(&mut self, who: Who, device: usize) {
        if let Some(right) = self.rights.get_mut(&(device, who)) {
            right.terms.uses = right.terms.uses.map(|n| n - 1);
        }
        if let Who::App(app) = who {
            self.spend(Who::Person(self.apps[app].of), device);
        }
    }

    /// Does it, if it may be done.
    pub fn apply(&mut self, step: &Step) -> bool {
        let person = Who::Person;
        match *step {
            Step::Claim { by, device, complete } => {
                let may = self.alive[by] && self.roles[by] != Role::Guest && !self.is_bound(device);
                if may {
                    self.forget(device);
                    self.things[device] = Thing { claimed: true, complete, ..Thing::default() };
                    self.put(device, person(by), WHOLE, None);
                }
                may
            }
            Step::Grant { by, to, device, ref offer } => self.grant(by, to, device, Terms::of(offer, self.now)),
            Step::Bind { by, other, device, ref offer } => {
                let terms = Terms::of(offer, self.now);
                let both = self.may_give(by, device, &terms) && self.administers(by, other);
                let may = both && other != device && terms.privilege < 3 && !self.reaches(device, other);
                if may {
                    self.put(device, Who::Device(other), terms, Some(person(by)));
                }
                may
            }
            Step::Revoke { by, of, device, with } => self.revoke(by, self.round(of), device, with),
            Step::Take { by, device } => {
                let may = self.is_owner(by) && self.is_bound(device);
                if may {
                    self.put(device, person(by), WHOLE, Some(person(by)));
                }
                may
            }
            Step::Suspend { by, device, suspend } => {
                let may = self.is_owner(by) && self.things[device].suspended != suspend;
                if may {
                    self.things[device].suspended = suspend;
                }
                may
            }
            Step::Quarantine { device } => {
                self.things[device].quarantined = true;
                true
            }
            Step::Lift { by, device } => {
                let may = self.is_owner(by) && self.things[device].quarantined;
                self.things[device].quarantined &= !may;
                may
            }
            Step::Remove { by, device } => {
                let may = self.administers(by, device) && !self.is_shut_out(device);
                if may {
                    self.forget(device);
                }
                may
            }
            Step::Reset { device } => {
                if !self.is_shut_out(device) {
                    self.forget(device);
                }
                true
            }
            Step::Transfer { by, to, device } => self.transfer(by, to, device),
            Step::Invite { by, device, ref offer, life } => {
                let terms = Terms::of(offer, self.now);
                let may = self.may_give(by, device, &terms);
                if may {
                    self.invitations.push(Invitation { by, device, terms, until: self.now + life * GRAIN, open: true });
                }
                may
            }
            Step::Withdraw { by, invitation } => {
                let n = invitation % self.invitations.len();
                let (own, now) = (self.is_owner(by), self.now);
                let found = &mut self.invitations[n];
                // One whose time is over may be swept away or not: nobody can accept it.
                let may = found.open && now < found.until && self.alive[by] && (own || found.by == by);
                found.open &= !may;
                may
            }
            Step::Accept { by, invitation } => self.accept(by, invitation % self.invitations.len()),
            Step::Link { by, device, privilege, life } => self.link(by, device, privilege, life),
            Step::Unlink { by, app } => {
                let app = app % self.apps.len();
                let may = self.alive[by] && !self.apps[app].ended && (self.apps[app].of == by || self.is_owner(by));
                if may {
                    self.end_app(app);
                }
                may
            }
            Step::Password { by } => {
                self.end_apps_of(by);
                true
            }
            Step::Role { by, of, role } => {
                let role = [Role::Owner, Role::Member, Role::Guest][role];
                let may = self.is_owner(by) && self.alive[of] && (role == Role::Owner || !self.is_last_owner(of));
                if may {
                    self.roles[of] = role;
                }
                may
            }
            Step::End { by, who, with } => self.end(by, who, with),
            Step::Use { by, device } => {
                let by = self.round(by);
                let may = self.may(by, device, Action::Operate);
                if may {
                    self.spend(by, device);
                }
                may
            }
            Step::Pass { grains } => {
                self.now += grains * GRAIN;
                true
            }
            Step::Clock { known } => {
                self.known = known;
                true
            }
            Step::Restart => {
                // The hub sweeps what is over when it starts.
                for app in 0..self.apps.len() {
                    if self.apps[app].until <= self.now {
                        self.end_app(app);
                    }
                }
                true
            }
        }
    }

    fn round(&self, who: Who) -> Who {
        if let Who::App(n) = who { Who::App(n % self.apps.len()) } else { who }
    }
}
