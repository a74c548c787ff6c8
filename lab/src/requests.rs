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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;

use crate::{Error, Handle};

/// How often each question is asked: enough for every pod of a few to have its turn.
const TIMES: usize = 30;

/// Asks everything, says who answered, and returns what is not as it should be.
///
/// # Errors
/// As [`Request::ask`].
pub fn ask_all(
    nodes: &BTreeMap<String, Handle>,
    requests: &[Request],
    say: &dyn Fn(&str),
) -> Result<Vec<String>, Error> {
    let mut faults = Vec::new();
    for request in requests {
        let answers = request.ask(nodes, TIMES)?;
        let Request { from, to, by, .. } = request;
        say(&format!("{TIMES} requests of {from} to {to}, ({by}):"));
        for line in answers.to_string().lines() {
            say(line);
        }
        faults.extend(request.faults(&answers));
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
    pub fn ask(&self, nodes: &BTreeMap<String, Handle>, times: usize) -> Result<Answers, Error> {
        let node = nodes.get(&self.from).ok_or_else(|| Error::NoNode {
            name: self.from.clone(),
            have: nodes.keys().cloned().collect::<Vec<_>>().join(" "),
        })?;
        let output = node
            .command("curl")
            .args([
                "--silent",
                "--show-error",
                "--no-progress-meter",
                "--max-time",
                "20",
            ])
            .arg(format!("http://{}/[1-{times}]", self.host()))
            .output()
            .map_err(|source| Error::Start {
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
    pub fn faults(&self, answers: &Answers) -> Vec<String> {
        let mut faults = answers.failed.clone();
        let pods: BTreeSet<String> = answers.counts.keys().map(|answer| answer.pod.clone()).collect();
        if pods != self.pods {
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
            request().faults(&answers),
            ["203.0.113.1: [a] answered, not [a b]"]
        );
        answers.counts.insert(answer("b", "192.0.2.9"), 1);
        assert_eq!(request().faults(&answers), ["203.0.113.1: b saw 192.0.2.9"]);
    }
}
