//! The shell of [`Elector`]: a `coordination.k8s.io/v1` Lease at an API server.
//!
//! ```text
//!                 read, write over a resourceVersion
//!   API server <------------------------------------- Elector ---> Standing (the latest; until when)
//!              -------------------------------------> (pure)  <--- resign
//!                 found, written, refused, failed
//! ```
//!
//! It carries values and decides nothing. A write is a PUT with the `resourceVersion` that was seen, or a POST; never a
//! patch. A read is a GET without one, so it is not answered from a cache. The client does not repeat requests by
//! itself: a PUT that was done and is repeated would be refused, as if somebody else had won.
//!
//! What others wrote to the Lease stays, such as labels. Times in it are for people and for candidates of other makes;
//! none is read here.

use std::pin::Pin;
use std::time::{Duration, Instant};

use crds::k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use crds::k8s_openapi::jiff::Timestamp;
use futures_util::future::OptionFuture;
use kube::api::{Api, ObjectMeta, PostParams};
use l2announce::{Claim, Elector, Event, Input, Loss, Output, Record, Timing, Version};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::source::kube::{Cluster, ClusterError, chain};

/// Which Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    pub name: String,
}

/// How the election stands for this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It must not act. `holder`: who may, as far as known.
    Candidate { holder: Option<String> },
    /// It may act until then. Before each effect, look whether it is then: nobody may come in time to say stop.
    Holder { until: Instant },
}

/// A candidate under way. Dropping it ends it, and the others wait until its Lease has expired.
#[derive(Debug)]
pub struct Candidacy {
    standing: watch::Receiver<Standing>,
    resign: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Candidacy {
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Lets another take over at once. Call it when this process has stopped to act. Returns when the Lease is
    /// released, or can not be in time.
    pub async fn resign(self) {
        // Fails only if the task has ended, and then there is nothing to release.
        let _ = self.resign.send(());
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Starts to run for the Lease. `me` is unique among all processes that do; `seed` decides all jitter.
///
/// # Errors
/// [`ClusterError::Credentials`]
pub fn start(
    cluster: Cluster,
    place: Place,
    me: &str,
    timing: Timing,
    seed: u64,
) -> Result<Candidacy, ClusterError> {
    let client = cluster.client()?;
    let (tell, standing) = watch::channel(Standing::Candidate { holder: None });
    let (resign, resigned) = oneshot::channel();
    let shell = Shell {
        api: Api::namespaced(client, &place.namespace),
        elector: Elector::new(Instant::now(), me, timing, seed),
        place,
        me: me.to_owned(),
        timing,
        last: None,
        tell,
        trouble: None,
    };
    let task = tokio::spawn(shell.run(resigned));
    Ok(Candidacy {
        standing,
        resign,
        task,
    })
}

struct Shell {
    api: Api<Lease>,
    elector: Elector,
    place: Place,
    me: String,
    timing: Timing,
    /// The Lease as it was last found or written: what is not ours in it is written back.
    last: Option<Lease>,
    tell: watch::Sender<Standing>,
    /// What was logged last; the same again is not.
    trouble: Option<String>,
}

type Request = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What came of a request.
enum Answer {
    Found(Option<Box<Lease>>),
    Written(Box<Lease>),
    Refused,
    Failed(String),
}

impl Shell {
    async fn run(mut self, mut resigned: oneshot::Receiver<()>) {
        let mut request: OptionFuture<Request> = None.into();
        let mut leaving = false;
        let mut out = Vec::new();
        loop {
            let wake = self.elector.next_timeout();
            let input = tokio::select! {
                asked = &mut resigned, if !leaving => {
                    if asked.is_err() {
                        return;
                    }
                    leaving = true;
                    Input::Resigned
                }
                Some(answer) = &mut request => {
                    request = None.into();
                    self.input(answer)
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => Input::TimedOut,
            };
            self.elector.handle(Instant::now(), input, &mut out);
            for output in out.drain(..) {
                match output {
                    Output::Read => request = Some(self.read()).into(),
                    Output::Write { over, claim } => request = Some(self.write(over, claim)).into(),
                    Output::Tell(Event::Ended) => return,
                    Output::Tell(event) => told(&self.tell, &self.place, event),
                }
            }
        }
    }

    fn read(&self) -> Request {
        let (api, name) = (self.api.clone(), self.place.name.clone());
        self.within(async move {
            match api.get_opt(&name).await {
                Ok(found) => Answer::Found(found.map(Box::new)),
                Err(error) => Answer::Failed(chain(&error)),
            }
        })
    }

    fn write(&self, over: Option<Version>, claim: Claim) -> Request {
        let mut lease = claimed(self.last.as_ref(), &self.me, self.timing, claim, Timestamp::now());
        lease.metadata.name = Some(self.place.name.clone());
        lease.metadata.namespace = Some(self.place.namespace.clone());
        let (api, name) = (self.api.clone(), self.place.name.clone());
        let params = PostParams {
            field_manager: Some("stentor".to_owned()),
            ..PostParams::default()
        };
        self.within(async move {
            let (written, gone_is) = match over {
                Some(Version(version)) => {
                    lease.metadata.resource_version = Some(version);
                    (api.replace(&name, &params, &lease).await, Answer::Refused)
                }
                None => {
                    lease.metadata = ObjectMeta {
                        name: lease.metadata.name,
                        namespace: lease.metadata.namespace,
                        ..ObjectMeta::default()
                    };
                    let no_namespace = Answer::Failed("there is no such namespace".to_owned());
                    (api.create(&params, &lease).await, no_namespace)
                }
            };
            match written {
                Ok(lease) => Answer::Written(Box::new(lease)),
                Err(kube::Error::Api(status)) if status.code == 409 => Answer::Refused,
                Err(kube::Error::Api(status)) if status.code == 404 => gone_is,
                Err(error) => Answer::Failed(chain(&error)),
            }
        })
    }

    fn within(&self, work: impl Future<Output = Answer> + Send + 'static) -> Request {
        let limit = self.timing.limit();
        Box::pin(async move {
            let late = |_| Answer::Failed(format!("no answer within {limit:?}"));
            timeout(limit, work).await.unwrap_or_else(late)
        })
    }

    fn input(&mut self, answer: Answer) -> Input {
        let (input, last) = match answer {
            Answer::Found(None) => (Input::Found(None), None),
            Answer::Found(Some(lease)) => match version(&lease) {
                Some(version) => (Input::Found(Some((version, record(&lease)))), Some(*lease)),
                None => return self.failed("a Lease without a resourceVersion".to_owned()),
            },
            Answer::Written(lease) => match version(&lease) {
                Some(version) => (Input::Written(version), Some(*lease)),
                None => return self.failed("a Lease without a resourceVersion".to_owned()),
            },
            Answer::Refused => return Input::Refused,
            Answer::Failed(why) => return self.failed(why),
        };
        self.last = last;
        self.trouble = None;
        input
    }

    fn failed(&mut self, why: String) -> Input {
        if self.trouble.as_ref() != Some(&why) {
            let Place { namespace, name } = &self.place;
            tracing::warn!(
                namespace,
                name,
                error = why,
                "the Lease can not be read or written"
            );
            self.trouble = Some(why);
        }
        Input::Failed
    }
}

fn told(tell: &watch::Sender<Standing>, place: &Place, event: Event) {
    let Place { namespace, name } = place;
    let standing = match event {
        Event::Won { until } => {
            tracing::info!(namespace, name, "this process holds the Lease");
            Standing::Holder { until }
        }
        Event::Renewed { until } => Standing::Holder { until },
        Event::Lost(loss) => {
            let reason = loss.reason();
            match loss {
                Loss::Resigned => {
                    tracing::info!(namespace, name, reason, "this process gives the Lease back")
                }
                Loss::Expired | Loss::Taken { .. } => {
                    tracing::warn!(namespace, name, reason, "this process holds the Lease no longer");
                }
            }
            Standing::Candidate { holder: None }
        }
        Event::Follows { holder } => {
            tracing::info!(namespace, name, holder, "another process holds the Lease");
            Standing::Candidate { holder: Some(holder) }
        }
        // Whoever listens sees that nobody tells any more.
        Event::Ended => return,
    };
    tell.send_replace(standing);
}

/// The Lease as it is to be, with everything in it that is not ours. Its version is put in by who writes.
fn claimed(last: Option<&Lease>, me: &str, timing: Timing, claim: Claim, now: Timestamp) -> Lease {
    let mut lease = last.cloned().unwrap_or_default();
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    let now = MicroTime::from(now);
    spec.renew_time = Some(now.clone());
    spec.lease_duration_seconds = Some(seconds(timing.lease()));
    match claim {
        Claim::Take => {
            spec.holder_identity = Some(me.to_owned());
            spec.acquire_time = Some(now);
            spec.lease_transitions = Some(match last {
                Some(_) => spec.lease_transitions.unwrap_or(0).saturating_add(1),
                None => 0,
            });
        }
        Claim::Renew => {}
        // As clients of Kubernetes release.
        Claim::Release => {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
    }
    lease
}

/// Never less: others wait that long.
fn seconds(lease: Duration) -> i32 {
    let whole = lease.as_secs() + u64::from(lease.subsec_nanos() > 0);
    i32::try_from(whole).unwrap_or(i32::MAX)
}

fn version(lease: &Lease) -> Option<Version> {
    lease.metadata.resource_version.clone().map(Version)
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.clone());
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    Record {
        holder: holder.filter(|holder| !holder.is_empty()),
        lease: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(by: &str) -> Lease {
        let mut lease = claimed(None, by, Timing::default(), Claim::Take, Timestamp::UNIX_EPOCH);
        lease.metadata.labels = Some([("of".to_owned(), "somebody".to_owned())].into());
        lease
    }

    #[test]
    fn what_others_wrote_stays() {
        let held = held("a");
        let taken = claimed(Some(&held), "b", Timing::default(), Claim::Take, Timestamp::now());
        assert_eq!(taken.metadata.labels, held.metadata.labels);
        assert_eq!(record(&taken).holder.as_deref(), Some("b"));
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(1));
    }

    #[test]
    fn a_released_lease_has_no_holder() {
        let released = claimed(
            Some(&held("a")),
            "a",
            Timing::default(),
            Claim::Release,
            Timestamp::now(),
        );
        assert_eq!(record(&released).holder, None);
        let mut empty = released;
        empty.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert_eq!(record(&empty).holder, None);
    }

    #[test]
    fn a_lease_never_says_less_than_it_is() {
        assert_eq!(seconds(Duration::from_millis(1500)), 2);
        assert_eq!(seconds(Duration::from_secs(15)), 15);
    }
}
