//! The top machine: every instance and peer of a node.
//!
//! ```text
//!   handle(now, Input) --> which instance, which peer? --> Peer (session machine)
//!                                                            |          ^
//!                                              routes learned v          | routes to send, as credit allows
//!                                                           Rib of the instance
//!   next_timeout() <-- the earliest of all timers
//! ```
//!
//! The shell calls [`Speaker::handle`] with what happened and carries out what comes back; when
//! [`Speaker::next_timeout`] passes it says [`Input::TimedOut`]. Nothing else drives the machine, so a run
//! repeats exactly with the same inputs, times and seed.

mod event;
mod instance;
mod io;
mod listener;
pub(crate) mod pace;
mod query;
mod schedule;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::config::SpeakerConfig;
use crate::peer::LocalEnd;
use crate::session::timers::Jitter;
use crate::types::Name;

pub use event::{DownReason, Event, LimitEvent, Refusal, StateName};
pub use io::{
    Close, Companions, ConnId, Dial, Input, ListenKey, Output, Request, Shutdown, Start, TtlOption,
};
pub use query::{QueryError, RequestError};
pub use status::{FamilyStatus, PathView, PeerStatus, Table};

use instance::{Instance, Shared};

/// Speaks BGP for every instance of its configuration.
#[derive(Debug)]
pub struct Speaker {
    instances: BTreeMap<Name, Instance>,
    config: Arc<SpeakerConfig>,
    jitter: Jitter,
    seed: u64,
    next_dial: u64,
    /// What instances of the next configuration start from.
    start: Start,
    host: Option<Name>,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// Shut down: nothing is begun any more.
    Over,
}

impl Speaker {
    /// A speaker of nothing; [`Input::Configured`] tells it what to be. `seed` decides all jitter.
    #[must_use]
    pub fn new(seed: u64, start: Start) -> Self {
        Self {
            instances: BTreeMap::new(),
            config: Arc::default(),
            jitter: Jitter::new(seed),
            seed,
            next_dial: 0,
            start,
            host: None,
            life: Life::Running,
        }
    }

    /// The host name that OPENs carry (FQDN capability).
    #[must_use]
    pub fn with_host_name(mut self, host: Name) -> Self {
        self.host = Some(host);
        self
    }

    /// Takes one piece of news and appends what follows from it to `out`.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        if self.life == Life::Over {
            return;
        }
        match input {
            Input::Configured(config) => self.configured(now, config, out),
            Input::Asked(Request::Shutdown(how)) => self.shut_down(now, how, out),
            Input::Listened { instance, result } => {
                self.on_instance(&instance, now, out, |i, shared| i.listened(result, shared));
            }
            Input::Accepted {
                conn,
                instance,
                local,
                remote,
                companions,
            } => {
                let local = LocalEnd {
                    address: local,
                    companions,
                };
                if self.instances.contains_key(&instance) {
                    self.on_instance(&instance, now, out, |i, shared| {
                        i.accepted(conn, local, remote, shared);
                    });
                } else {
                    out.push(Output::Close {
                        conn,
                        how: Close::Abort,
                    });
                }
            }
            Input::Connected {
                conn,
                local,
                companions,
                remote: _,
            } => self.on_conn(conn, now, out, |peer, cx| {
                let local = LocalEnd {
                    address: local,
                    companions,
                };
                peer.connected(conn, local, cx);
            }),
            Input::ConnectFailed { conn, error } => {
                self.on_conn(conn, now, out, |peer, cx| peer.connect_failed(conn, error, cx));
            }
            Input::Received { conn, bytes } => {
                self.on_conn(conn, now, out, |peer, cx| peer.received(conn, bytes, cx));
            }
            Input::Sent { conn, bytes } => {
                self.on_conn(conn, now, out, |peer, cx| peer.sent(conn, bytes, cx));
            }
            Input::Closed { conn, error } => {
                self.on_conn(conn, now, out, |peer, cx| peer.closed(conn, error, cx));
            }
            Input::LinkDown { interface, peers } => self.on_all(now, out, |i, shared| {
                i.link_down(&interface, &peers, shared);
            }),
            Input::Asked(Request::Reset { instance, peer, text }) => {
                self.on_instance(&instance, now, out, |i, shared| {
                    i.each_named(peer.as_ref(), shared, |p, cx| p.reset(&text, cx));
                })
            }
            Input::Asked(Request::RefreshIn { instance, peer }) => {
                self.on_instance(&instance, now, out, |i, shared| {
                    i.each_named(peer.as_ref(), shared, |p, cx| p.refresh_in(cx));
                });
            }
            Input::Asked(Request::RefreshOut { instance, peer }) => {
                self.on_instance(&instance, now, out, |i, shared| {
                    i.each_named(peer.as_ref(), shared, |p, cx| p.refresh_out(cx));
                });
            }
            Input::TimedOut => self.on_all(now, out, Instance::timed_out),
        }
    }

    /// When [`Input::TimedOut`] is due; a time in the past means now. `None`: nothing to wait for.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.life {
            Life::Running => self.instances.values().filter_map(Instance::next_timeout).min(),
            Life::Over => None,
        }
    }

    fn configured(&mut self, now: Instant, config: Arc<SpeakerConfig>, out: &mut Vec<Output>) {
        let gone: Vec<Name> = self
            .instances
            .keys()
            .filter(|name| !config.instances.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.on_instance(&name, now, out, Instance::withdraw);
            self.instances.remove(&name);
        }
        for (name, wish) in &config.instances {
            if !self.instances.contains_key(name) {
                let instance = Instance::new(name, wish, self.host.clone(), self.start, self.seed, now);
                self.instances.insert(name.clone(), instance);
            }
            self.on_instance(name, now, out, |i, shared| i.configure(wish, shared));
        }
        self.config = config;
        // What comes later was not there before the restart.
        self.start = Start::Cold;
    }

    fn shut_down(&mut self, now: Instant, how: Shutdown, out: &mut Vec<Output>) {
        self.on_all(now, out, |i, shared| i.shut_down(how, shared));
        self.life = Life::Over;
    }

    fn on_conn(
        &mut self,
        conn: ConnId,
        now: Instant,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut crate::peer::Peer, &mut crate::peer::Cx<'_>),
    ) {
        let shared = &mut Shared {
            now,
            out,
            jitter: &mut self.jitter,
            next_dial: &mut self.next_dial,
        };
        // What comes for a connection that was closed meanwhile belongs to nobody.
        if let Some((peer, instance)) = self
            .instances
            .values_mut()
            .find_map(|instance| Some((instance.owner(conn)?, instance)))
        {
            instance.with_peer(peer, shared, act);
            instance.settle(shared);
        }
    }

    fn on_instance(
        &mut self,
        name: &Name,
        now: Instant,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut Instance, &mut Shared<'_>),
    ) {
        let shared = &mut Shared {
            now,
            out,
            jitter: &mut self.jitter,
            next_dial: &mut self.next_dial,
        };
        if let Some(instance) = self.instances.get_mut(name) {
            act(instance, shared);
            instance.settle(shared);
        }
    }

    fn on_all(
        &mut self,
        now: Instant,
        out: &mut Vec<Output>,
        mut act: impl FnMut(&mut Instance, &mut Shared<'_>),
    ) {
        let shared = &mut Shared {
            now,
            out,
            jitter: &mut self.jitter,
            next_dial: &mut self.next_dial,
        };
        for instance in self.instances.values_mut() {
            act(instance, shared);
            instance.settle(shared);
        }
    }
}
