//! Requests to addresses of Services: who answered, and whom that pod saw.
//!
//! ```yaml
//! requests:
//! - from: client                    # a node of the topology
//!   to: 203.0.113.1                 # port 80
//!   by: SNAT                        # how nodes forward, for the reader
//!   pods: [web-0, web-1]            # all of them answer sooner or later, and nobody else
//!   sees: [172.20.3.2, 172.20.1.2]  # addresses that pods may see as the client's
//! ```
//!
//! Pods of a lab of agents are [`crate::echo`] servers, and say all of it. Those of a real cluster run agnhost: they have names
//! that nobody foresees, so `web-0, web-1` are any two pods of the Deployment `web`, and they do not say where they run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use crate::{Error, Handle};

/// How often each question is asked: enough for every pod of a few to have its turn.
const TIMES: usize = 30;

/// What pods run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// [`crate::echo`]
    Echo,
    /// `agnhost netexec`, in a real cluster.
    Agnhost,
}

/// Asks everything, says who answered, and returns what is not as it should be.
///
/// # Errors
/// As [`Request::ask`].
pub fn ask_all(
    nodes: &BTreeMap<String, Handle>,
    requests: &[Request],
    pods: Pods,
    say: &dyn Fn(&str),
) -> Result<Vec<String>, Error> {
    let mut faults = Vec::new();
    for request in requests {
        let answers = request.ask(nodes, pods, TIMES)?;
        let Request { from, to, by, .. } = request;
        say(&format!("{TIMES} requests of {from} to {to}, ({by}):"));
        for line in answers.to_string().lines() {
            say(line);
        }
        faults.extend(request.faults(&answers, pods));
    }
    Ok(faults)
}

/// A question that a client asks again and again.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub from: String,
    pub to: IpAddr,
    pub by: String,
    pub pods: BTreeSet<String>,
    pub sees: BTreeSet<IpAddr>,
}

/// What came back, by the pod and the address that it saw, and how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub counts: BTreeMap<Answer, usize>,
    /// Requests that had no answer, or one that is no echo server's.
    pub failed: Vec<String>,
}

/// Of an echo server, see [`crate::echo`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    pub pod: String,
    pub node: String,
    pub client: IpAddr,
}

impl Request {
    /// Asks so many times, each time over a connection of its own.
    ///
    /// # Errors
    /// The lab has no such node, or curl cannot be started.
    pub fn ask(&self, nodes: &BTreeMap<String, Handle>, pods: Pods, times: usize) -> Result<Answers, Error> {
        let node = nodes.get(&self.from).ok_or_else(|| Error::NoNode {
            name: self.from.clone(),
            have: nodes.keys().cloned().collect::<Vec<_>>().join(" "),
        })?;
        let host = self.host();
        let mut command = node.command(match pods {
            Pods::Echo => "curl",
            Pods::Agnhost => "sh",
        });
        match pods {
            Pods::Echo => command
                .args([
                    "--silent",
                    "--show-error",
                    "--no-progress-meter",
                    "--max-time",
                    "20",
                ])
                .arg(format!("http://{host}/[1-{times}]")),
            Pods::Agnhost => command.args(["-c", ASK, "sh", &host, &times.to_string()]),
        };
        let output = command.output().map_err(|source| Error::Start {
            program: "curl".into(),
            source,
        })?;
        let mut answers = Answers::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            // curl tells of the place of each answer in between.
            if line.starts_with("--_curl_--") {
                continue;
            }
            match read(line) {
                Some(answer) => *answers.counts.entry(answer).or_default() += 1,
                None => answers.failed.push(line.to_owned()),
            }
        }
        let said = String::from_utf8_lossy(&output.stderr);
        answers.failed.extend(said.lines().map(str::to_owned));
        Ok(answers)
    }

    /// What is not as it should be.
    #[must_use]
    pub fn faults(&self, answers: &Answers, ran: Pods) -> Vec<String> {
        let mut faults = answers.failed.clone();
        let pods: BTreeSet<String> = answers.counts.keys().map(|answer| answer.pod.clone()).collect();
        let same = match ran {
            Pods::Echo => pods == self.pods,
            Pods::Agnhost => by_owner(&pods, 2) == by_owner(&self.pods, 1),
        };
        if !same {
            let (pods, wanted) = (listed(&pods), listed(&self.pods));
            faults.push(format!("{}: [{pods}] answered, not [{wanted}]", self.to));
        }
        for answer in answers
            .counts
            .keys()
            .filter(|answer| !self.sees.contains(&answer.client))
        {
            faults.push(format!("{}: {} saw {}", self.to, answer.pod, answer.client));
        }
        faults
    }

    fn host(&self) -> String {
        match self.to {
            IpAddr::V4(address) => address.to_string(),
            // Brackets are curl's own, unless they are escaped.
            IpAddr::V6(address) => format!("\\[{address}\\]"),
        }
    }
}

/// Pods of each Deployment: its name comes before so many words of theirs.
fn by_owner(pods: &BTreeSet<String>, words: usize) -> BTreeMap<&str, usize> {
    let mut owners = BTreeMap::new();
    for pod in pods {
        let owner = pod.rsplitn(words + 1, '-').nth(words).unwrap_or(pod);
        *owners.entry(owner).or_default() += 1;
    }
    owners
}

/// `$1` is asked `$2` times, each time over a connection of its own: who are you, and who am I?
const ASK: &str = r#"
for time in $(seq "$2"); do
  printf 'node=- pod='
  curl --silent --show-error --max-time 20 --write-out ' client=' "http://$1/hostname" \
    --next --silent --show-error --max-time 20 --write-out '\n' "http://$1/clientip"
done
"#;

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (answer, count) in &self.counts {
            let Answer { pod, node, client } = answer;
            writeln!(f, "{count:4} times {pod} on {node}, which saw {client}")?;
        }
        for failed in &self.failed {
            writeln!(f, "     failed: {failed}")?;
        }
        Ok(())
    }
}

fn listed(pods: &BTreeSet<String>) -> String {
    pods.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

pub(crate) fn read(line: &str) -> Option<Answer> {
    let word = |key: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let client: std::net::SocketAddr = word("client")?.parse().ok()?;
    Some(Answer {
        pod: word("pod")?.to_owned(),
        node: word("node")?.to_owned(),
        client: client.ip(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            from: "client".into(),
            to: "203.0.113.1".parse().unwrap(),
            by: "SNAT".into(),
            pods: ["a".to_owned(), "b".to_owned()].into(),
            sees: ["192.0.2.1".parse().unwrap()].into(),
        }
    }

    #[test]
    fn answers_of_echo_servers_are_read() {
        let answer = read("pod=a namespace=default node=n client=[2001:db8::1]:4000").unwrap();
        assert_eq!((&*answer.pod, &*answer.node), ("a", "n"));
        assert_eq!(answer.client.to_string(), "2001:db8::1");
        assert_eq!(read("<html>"), None);
    }

    #[test]
    fn a_pod_that_is_missing_and_an_address_that_is_not_expected_are_faults() {
        let mut answers = Answers::default();
        let answer = |pod: &str, client: &str| Answer {
            pod: pod.into(),
            node: "n".into(),
            client: client.parse().unwrap(),
        };
        answers.counts.insert(answer("a", "192.0.2.1"), 1);
        assert_eq!(
            request().faults(&answers, Pods::Echo),
            ["203.0.113.1: [a] answered, not [a b]"]
        );
        answers.counts.insert(answer("b", "192.0.2.9"), 1);
        assert_eq!(
            request().faults(&answers, Pods::Echo),
            ["203.0.113.1: b saw 192.0.2.9"]
        );
    }
    #[test]
    fn any_pods_of_a_deployment_are_its_pods_in_a_real_cluster() {
        let mut answers = Answers::default();
        let answer = |pod: &str| Answer {
            pod: pod.into(),
            node: "-".into(),
            client: "192.0.2.1".parse().unwrap(),
        };
        answers.counts.insert(answer("a-58f4d-x7k2p"), 1);
        let mut request = request();
        request.pods = ["a-0".to_owned(), "a-1".to_owned()].into();
        assert_eq!(request.faults(&answers, Pods::Agnhost).len(), 1);
        answers.counts.insert(answer("a-58f4d-9zq4m"), 1);
        assert_eq!(request.faults(&answers, Pods::Agnhost), Vec::<String>::new());
    }
}
