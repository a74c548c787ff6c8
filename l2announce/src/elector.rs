//! At most one of many candidates acts at a time. The judge is one record with a version, a Lease.
//!
//! ```text
//!                      the record is free, or did not change for a lease: Take, and it was confirmed
//!            +-----------------------------------------------------------------------------+
//!            |                                                                             v
//!      +-----------+                                                                 +----------+
//!  --> | Candidate | <-- Lost: Expired (no renewal confirmed for `renew`), Taken ----|  Holder  |--+ Renew,
//!      +-----------+                                                                 +----------+<-+ each `retry`
//!            |                                +---------+                                  |
//!            +--- Resigned ------------------>| Leaving |<--------- Resigned: Lost --------+
//!                                             +---------+
//!                                                  | Release was confirmed, or nothing is ours, or out of patience
//!                                                  v
//!                                                Gone
//! ```
//!
//! Why there are never two holders:
//!
//! 1. Every write names the version it replaces, so of two writes over the same version one is refused.
//! 2. Expiry is measured on the own clock, from the moment a change was *seen*, which is after it was made. No other
//!    machine's clock is read; what a record says about times is for people.
//! 3. A holder acts until `renew` after it *sent* the last renewal that was confirmed, which is before it was made.
//!    `renew` is shorter than `lease`: the difference pays for clocks that run apart and for the time stopping takes.
//!    Every confirmed renewal tells the new deadline, so also a user that is not woken knows when to stop.
//! 4. Only the answer to a write makes a holder. A write without an answer may have been done, may be done later, or
//!    never. It is in doubt until a record is read that came after it; a record that turns out to be ours is renewed
//!    first and acted upon then.
//!
//! A record that bears our name and that we did not write belongs to somebody of the same name, such as a predecessor
//! that may still run. It is treated like anybody's.
//!
//! What this can not prevent: whoever deletes the record while it is held lets in a candidate that never saw it.
//! Candidates that saw it wait as if it were there; the holder finds out with its next renewal.

mod timing;

use std::time::{Duration, Instant};

pub use timing::{Timing, TimingError};

/// A `resourceVersion`: equal or not, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// What a record says, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `None`: it was released.
    pub holder: Option<String>,
    /// For how long its holder wants it to be left alone.
    pub lease: Duration,
}

/// News. Of each request exactly one answer is told, the latest after [`Timing::limit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The answer to [`Output::Read`]; `None`: there is no record. It must be no older than the request.
    Found(Option<(Version, Record)>),
    /// The answer to [`Output::Write`]: done, and this is the new version.
    Written(Version),
    /// The answer to [`Output::Write`]: not done, because the record is not what it was.
    Refused,
    /// No answer, or one that does not say what was done.
    Failed,
    TimedOut,
    /// This process wants to hold it no longer. It has stopped to act *before* it says so: others may take over at once.
    Resigned,
}

/// Orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Read the record as it is now, not from a cache.
    Read,
    /// Write it only if it still has this version; `None`: only if there is none.
    Write {
        over: Option<Version>,
        claim: Claim,
    },
    Tell(Event),
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Our name, in the place of whichever is there.
    Take,
    /// Our name is there: only show a sign of life. It must differ from the last one.
    Renew,
    /// No name.
    Release,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This process may act until then, and not one moment longer.
    Won { until: Instant },
    /// The same, with a later deadline.
    Renewed { until: Instant },
    /// It may not act any more.
    Lost(Loss),
    /// Somebody else holds it.
    Follows { holder: String },
    /// The machine came to its end.
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// No renewal was confirmed in time.
    Expired,
    /// The record bears another name: somebody did not wait, or edited it.
    Taken {
        by: String,
    },
    Resigned,
}

impl Loss {
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Taken { .. } => "taken",
            Self::Resigned => "resigned",
        }
    }
}

/// One candidate.
#[derive(Debug)]
pub struct Elector {
    me: String,
    timing: Timing,
    jitter: Jitter,
    role: Role,
    request: Request,
    /// The version of the last record that is known to be ours.
    mine: Option<Version>,
    doubt: Option<Doubt>,
    guard: Option<Guard>,
    /// The holder last told.
    follows: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Candidate,
    Holder { until: Instant },
    Leaving { until: Instant },
    Gone,
}

/// At most one request is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    Waiting {
        at: Instant,
        step: Step,
    },
    Reading,
    Writing {
        sent: Instant,
        over: Option<Version>,
        claim: Claim,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Read,
    Renew(Version),
}

/// A write that had no answer. It can be done only while the record has the version it was to replace.
#[derive(Debug)]
struct Doubt {
    over: Option<Version>,
}

/// Another's record, and until when it is left alone.
#[derive(Debug)]
struct Guard {
    version: Version,
    until: Instant,
}

impl Elector {
    /// `me` is unique among all candidates that run. `seed` decides all jitter.
    #[must_use]
    pub fn new(now: Instant, me: &str, timing: Timing, seed: u64) -> Self {
        Self {
            me: me.to_owned(),
            timing,
            jitter: Jitter(seed),
            role: Role::Candidate,
            request: Request::Waiting {
                at: now,
                step: Step::Read,
            },
            mine: None,
            doubt: None,
            guard: None,
            follows: None,
        }
    }

    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Output>) {
        // Before anything else: an answer that comes too late must not find a holder.
        self.expire(now, out);
        if self.role == Role::Gone {
            return;
        }
        match input {
            Input::Found(found) => self.found(now, found, out),
            Input::Written(version) => self.written(now, version, out),
            Input::Refused => self.refused(out),
            Input::Failed => self.failed(now),
            Input::TimedOut => self.timed_out(now, out),
            Input::Resigned => self.resigned(now, out),
        }
    }

    /// When to come back with [`Input::TimedOut`]. `None`: never.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let attempt = match self.request {
            Request::Waiting { at, .. } => Some(at),
            Request::Reading | Request::Writing { .. } => None,
        };
        match self.role {
            Role::Candidate => attempt,
            Role::Holder { until } | Role::Leaving { until } => {
                Some(attempt.map_or(until, |attempt| attempt.min(until)))
            }
            Role::Gone => None,
        }
    }

    /// Until when this process may act, if it may at all.
    #[must_use]
    pub fn holds_until(&self) -> Option<Instant> {
        match self.role {
            Role::Holder { until } => Some(until),
            Role::Candidate | Role::Leaving { .. } | Role::Gone => None,
        }
    }

    fn expire(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.role {
            Role::Holder { until } if now >= until => self.lose(Loss::Expired, out),
            Role::Leaving { until } if now >= until => self.end(out),
            Role::Candidate | Role::Holder { .. } | Role::Leaving { .. } | Role::Gone => {}
        }
    }

    fn lose(&mut self, loss: Loss, out: &mut Vec<Output>) {
        self.role = Role::Candidate;
        out.push(Output::Tell(Event::Lost(loss)));
    }

    fn end(&mut self, out: &mut Vec<Output>) {
        self.role = Role::Gone;
        out.push(Output::Tell(Event::Ended));
    }

    fn timed_out(&mut self, now: Instant, out: &mut Vec<Output>) {
        match &self.request {
            Request::Waiting { at, step } if *at <= now => match step.clone() {
                Step::Read => self.read(out),
                Step::Renew(version) => self.write(now, Some(version), Claim::Renew, out),
            },
            Request::Waiting { .. } | Request::Reading | Request::Writing { .. } => {}
        }
    }

    fn resigned(&mut self, now: Instant, out: &mut Vec<Output>) {
        match self.role {
            Role::Holder { .. } => self.lose(Loss::Resigned, out),
            Role::Candidate => {}
            Role::Leaving { .. } | Role::Gone => return,
        }
        self.role = Role::Leaving {
            until: now + self.timing.renew(),
        };
        match (&self.request, self.mine.clone(), &self.doubt) {
            // Its answer decides.
            (Request::Writing { .. }, _, _) => {}
            (_, None, None) => self.end(out),
            (Request::Reading, _, _) => {}
            (Request::Waiting { .. }, Some(mine), None) => self.write(now, Some(mine), Claim::Release, out),
            (Request::Waiting { .. }, _, Some(_)) => self.read(out),
        }
    }

    fn found(&mut self, now: Instant, found: Option<(Version, Record)>, out: &mut Vec<Output>) {
        if self.request != Request::Reading {
            return;
        }
        let version = found.as_ref().map(|(version, _)| version);
        // What was in doubt was to replace another version: by now it was done, or it will be refused.
        let settled = self.doubt.take_if(|doubt| doubt.over.as_ref() != version);
        let Some((version, record)) = found else {
            return self.found_nothing(now, out);
        };
        let Some(holder) = record.holder else {
            return self.found_free(now, version, out);
        };
        let ours = match self.role {
            // While we hold it nobody takes it, under whatever name: somebody else only edited it.
            Role::Holder { .. } => true,
            Role::Candidate | Role::Leaving { .. } | Role::Gone => {
                settled.is_some() || self.mine.as_ref() == Some(&version)
            }
        };
        if holder == self.me && ours {
            self.found_ours(now, version, out);
        } else {
            self.found_other(now, version, holder, record.lease, out);
        }
    }

    fn found_nothing(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.mine = None;
        match self.role {
            Role::Leaving { .. } if self.doubt.is_none() => self.end(out),
            Role::Leaving { .. } => self.hurry(now),
            Role::Holder { .. } => self.write(now, None, Claim::Take, out),
            // Whoever held it when it was seen last may still act.
            Role::Candidate if self.guard.as_ref().is_some_and(|guard| now < guard.until) => {
                self.look_again(now)
            }
            Role::Candidate => self.write(now, None, Claim::Take, out),
            Role::Gone => {}
        }
    }

    fn found_free(&mut self, now: Instant, version: Version, out: &mut Vec<Output>) {
        self.mine = None;
        self.guard = None;
        match self.role {
            Role::Leaving { .. } if self.doubt.is_none() => self.end(out),
            Role::Leaving { .. } => self.hurry(now),
            Role::Candidate | Role::Holder { .. } => self.write(now, Some(version), Claim::Take, out),
            Role::Gone => {}
        }
    }

    fn found_ours(&mut self, now: Instant, version: Version, out: &mut Vec<Output>) {
        self.mine = Some(version.clone());
        self.guard = None;
        let claim = match self.role {
            Role::Leaving { .. } => Claim::Release,
            Role::Candidate | Role::Holder { .. } => Claim::Renew,
            Role::Gone => return,
        };
        self.write(now, Some(version), claim, out);
    }

    fn found_other(
        &mut self,
        now: Instant,
        version: Version,
        holder: String,
        lease: Duration,
        out: &mut Vec<Output>,
    ) {
        self.mine = None;
        match self.role {
            Role::Holder { .. } => self.lose(Loss::Taken { by: holder.clone() }, out),
            Role::Leaving { .. } if self.doubt.is_none() => return self.end(out),
            Role::Leaving { .. } => return self.hurry(now),
            Role::Candidate => {}
            Role::Gone => return,
        }
        if self.follows.as_ref() != Some(&holder) {
            self.follows = Some(holder.clone());
            out.push(Output::Tell(Event::Follows { holder }));
        }
        let until = match &self.guard {
            Some(guard) if guard.version == version => guard.until,
            Some(_) | None => {
                // Whose promise is longer decides: its holder's or ours.
                let until = now + lease.max(self.timing.lease());
                self.guard = Some(Guard {
                    version: version.clone(),
                    until,
                });
                until
            }
        };
        if now >= until {
            self.write(now, Some(version), Claim::Take, out);
        } else {
            self.look_again(now);
        }
    }

    fn written(&mut self, now: Instant, version: Version, out: &mut Vec<Output>) {
        let Request::Writing { sent, over, claim } = self.request.clone() else {
            return;
        };
        if over.as_ref() == Some(&version) {
            // The server saw no difference and stored nothing: others saw no sign of life.
            return self.hurry(now);
        }
        self.mine = Some(version.clone());
        self.doubt = None;
        self.guard = None;
        self.follows = None;
        match (self.role, claim) {
            (Role::Leaving { .. }, Claim::Release) => self.end(out),
            (Role::Leaving { .. }, Claim::Take | Claim::Renew) => {
                self.write(now, Some(version), Claim::Release, out);
            }
            (Role::Candidate | Role::Holder { .. }, Claim::Take | Claim::Renew) => {
                self.confirm(now, sent, version, out);
            }
            // Who releases has left.
            (Role::Candidate | Role::Holder { .. }, Claim::Release) | (Role::Gone, _) => {}
        }
    }

    fn confirm(&mut self, now: Instant, sent: Instant, version: Version, out: &mut Vec<Output>) {
        let until = sent + self.timing.renew();
        let mut at = now;
        // Else the answer took so long that it says nothing about the present.
        if now < until {
            out.push(Output::Tell(match self.role {
                Role::Holder { .. } => Event::Renewed { until },
                Role::Candidate | Role::Leaving { .. } | Role::Gone => Event::Won { until },
            }));
            self.role = Role::Holder { until };
            let retry = self.timing.retry();
            at = now.max(sent + retry - self.jitter.up_to(retry / 5));
        }
        self.request = Request::Waiting {
            at,
            step: Step::Renew(version),
        };
    }

    fn refused(&mut self, out: &mut Vec<Output>) {
        match self.request {
            Request::Writing { .. } => self.read(out),
            Request::Waiting { .. } | Request::Reading => {}
        }
    }

    fn failed(&mut self, now: Instant) {
        match self.request.clone() {
            Request::Writing { over, .. } => self.doubt = Some(Doubt { over }),
            Request::Reading => {}
            Request::Waiting { .. } => return,
        }
        match self.role {
            Role::Holder { .. } | Role::Leaving { .. } => self.hurry(now),
            Role::Candidate => self.look_again(now),
            Role::Gone => {}
        }
    }

    fn read(&mut self, out: &mut Vec<Output>) {
        self.request = Request::Reading;
        out.push(Output::Read);
    }

    fn write(&mut self, now: Instant, over: Option<Version>, claim: Claim, out: &mut Vec<Output>) {
        self.request = Request::Writing {
            sent: now,
            over: over.clone(),
            claim,
        };
        out.push(Output::Write { over, claim });
    }

    /// At the pace of a candidate. The jitter keeps candidates from coming all at once.
    fn look_again(&mut self, now: Instant) {
        let retry = self.timing.retry();
        let pause = retry + self.jitter.up_to(retry * 6 / 5);
        self.request = Request::Waiting {
            at: now + pause,
            step: Step::Read,
        };
    }

    /// Time runs against a holder, but a server that is down must not be asked all the time.
    fn hurry(&mut self, now: Instant) {
        let quarter = self.timing.retry() / 4;
        let pause = quarter + self.jitter.up_to(quarter);
        self.request = Request::Waiting {
            at: now + pause,
            step: Step::Read,
        };
    }
}

/// SplitMix64: no quality is asked of it but that seeds differ.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn up_to(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(mixed % (most + 1))
    }
}

#[cfg(test)]
mod tests;
