//! One pairing as Server-Sent Events: the whole of it at once and at each change, until it has ended.

use super::{CHECK, Place, event, sent, taken};
use crate::net::problem::Problem;
use crate::service::{Change, PairingView, Service};
use crate::web::caller::Session;
use crate::web::request::Request;
use crate::web::{Context, refusal};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use warp::reply::Response;
use warp::sse::Event;

/// `GET /api/v1/pairings/{pairing}/events`.
pub(in crate::web) async fn pairing(context: Arc<Context>, request: Request, session: Session) -> Result<Response, Problem> {
    let id = request.parameter(0).to_owned();
    let place = taken(&context, &session)?;
    // What happens from here on is heard, and what was before is what is told first.
    let changes = context.service.changes();
    context.service.pairing(&session.actor, &id).map_err(refusal::problem)?;
    let follower = Follower { service: context.service.clone(), source: request.caller.ip, session, id, told: None };
    let (events, ready) = mpsc::channel(1);
    let shutdown = context.hooks.shutdown.clone();
    tokio::spawn(async move {
        let _place: Place = place;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follower.run(changes, events) => {}
        }
    });
    Ok(sent(ready))
}

struct Follower {
    service: Arc<Service>,
    source: IpAddr,
    session: Session,
    id: String,
    told: Option<PairingView>,
}

impl Follower {
    /// Runs until the pairing has ended, the reader is gone, or the session is over.
    async fn run(mut self, mut changes: broadcast::Receiver<Change>, events: mpsc::Sender<Event>) {
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Whoever may not see it any more is told nothing any more.
            let Ok(actor) = self.service.holder_of(&self.session.token, "https", self.source) else { return };
            let Ok(view) = self.service.pairing(&actor, &self.id) else { return };
            let over = view.is_over();
            if self.told.as_ref() != Some(&view) {
                let Some(event) = event("pairing", &view) else { return };
                if events.send(event).await.is_err() {
                    return;
                }
                self.told = Some(view);
            }
            if over {
                return;
            }
            loop {
                tokio::select! {
                    () = events.closed() => return,
                    _ = check.tick() => break,
                    change = changes.recv() => match change {
                        // Its place changes with others.
                        Ok(Change::Pairing { .. }) | Err(RecvError::Lagged(_)) => break,
                        Ok(_) => {}
                        Err(RecvError::Closed) => return,
                    },
                }
            }
        }
    }
}
