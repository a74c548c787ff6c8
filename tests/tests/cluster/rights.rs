//! What the chart allows is what is done: operator and agent run as its service accounts, and the API server's audit log
//! tells what each of them asked for and was refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use crds::{Kind, SCHEMA_VERSION_LABEL};
use kube::api::DeleteParams;
use lab::kubernetes::ControlPlane;
use serde_json::{Value, json};
use stentor::source::kube::{Cluster, Nodes, Scope, start};
use stentor_tests::cluster::{Agent, Api, LIMIT, Operator, values};
use tokio::time::timeout;

use crate::operator::{self, cilium_node, cluster_config, ips, node_config, pod_pool, pool, service, stage};

/// Where the chart's rendering has its service accounts, and Secrets.
const NAMESPACE: &str = "kube-system";
pub(crate) const SECRETS: &str = "bgp-secrets";
/// A definition of ours, and one that stands in its way.
const GATEWAYS: &str = "ciliumegressgatewaypolicies.cilium.io";
const FOREIGN: &str = "foreigners.cilium.io";

/// A verb for a resource (`services/status`) of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// Empty: everywhere.
    namespace: String,
    group: String,
    resource: String,
    verb: String,
}

/// A service account of the chart, and what it may do.
pub(crate) struct Account {
    name: &'static str,
    pub(crate) kubeconfig: PathBuf,
    granted: BTreeSet<Right>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Granted {
    Yes,
    No,
}

/// What an account asked for.
#[derive(Debug, Default)]
struct Audit {
    used: BTreeSet<Right>,
    refused: Vec<String>,
}

impl Account {
    pub(crate) fn new(
        control_plane: &ControlPlane,
        api: &Api,
        documents: &[Value],
        name: &'static str,
    ) -> Result<Self> {
        let token = api.block_on(api.token(NAMESPACE, name))?;
        let granted = granted(documents, name);
        ensure!(!granted.is_empty(), "the chart grants {name} nothing");
        let account = Self {
            name,
            kubeconfig: control_plane.kubeconfig_of(name, &token)?,
            granted,
        };
        // The server learns of an account and of its roles a moment after they are written.
        let known = Api::new(&account.kubeconfig)?;
        lab::until(LIMIT, "the account to be known", || {
            known
                .block_on(known.is_known())
                .map_err(|error| format!("{error:#}"))
        })?;
        for right in &account.granted {
            account.until_granted(api, right, Granted::Yes)?;
        }
        Ok(account)
    }

    fn user(&self) -> String {
        format!("system:serviceaccount:{NAMESPACE}:{}", self.name)
    }

    /// Waits until the server grants a right, or does not any more.
    fn until_granted(&self, api: &Api, right: &Right, wanted: Granted) -> Result<()> {
        let (resource, part) = right.resource.split_once('/').unwrap_or((&right.resource, ""));
        let asked = json!({
            "namespace": right.namespace,
            "group": right.group,
            "resource": resource,
            "subresource": part,
            "verb": right.verb,
        });
        lab::until(LIMIT, "rights to be as they were written", || {
            match api.block_on(api.may(&self.user(), asked.clone())) {
                Ok(may) if may == (wanted == Granted::Yes) => Ok(()),
                Ok(_) => Err(format!("{right:?}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        Ok(())
    }

    fn audit(&self, control_plane: &ControlPlane) -> Result<Audit> {
        let path = control_plane.audit_log();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let user = self.user();
        let mut audit = Audit::default();
        // The last line may not be whole yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines().filter(|line| line.contains(&user)) {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            if event["user"]["username"] != json!(user) {
                continue;
            }
            if event["responseStatus"]["code"] == 403 {
                audit.refused.push(line.to_owned());
                continue;
            }
            let of = |name: &str| event["objectRef"][name].as_str().unwrap_or_default();
            let resource = match of("subresource") {
                "" => of("resource").to_owned(),
                part => format!("{}/{part}", of("resource")),
            };
            audit.used.insert(Right {
                namespace: of("namespace").to_owned(),
                group: of("apiGroup").to_owned(),
                resource,
                verb: event["verb"].as_str().unwrap_or_default().to_owned(),
            });
        }
        Ok(audit)
    }

    /// How many of its requests, as they are written down, have this in them.
    pub(crate) fn requests(&self, control_plane: &ControlPlane, with: &str) -> Result<usize> {
        let text = fs::read_to_string(control_plane.audit_log())?;
        let user = self.user();
        let counts = |line: &&str| line.contains(&user) && line.contains(with);
        Ok(text.lines().filter(counts).count())
    }

    /// Waits until everything that is granted was used.
    fn uses_all(&self, control_plane: &ControlPlane, log: impl Fn() -> String) -> Result<()> {
        let used = |audit: &Audit, right: &Right| {
            audit.used.iter().any(|used| {
                (right.namespace.is_empty() || right.namespace == used.namespace)
                    && (&right.group, &right.resource, &right.verb)
                        == (&used.group, &used.resource, &used.verb)
            })
        };
        lab::until(LIMIT, "every right to be used", || {
            let audit = self.audit(control_plane).map_err(|error| format!("{error:#}"))?;
            let unused: Vec<&Right> = self.granted.iter().filter(|right| !used(&audit, right)).collect();
            if unused.is_empty() {
                Ok(())
            } else {
                Err(format!("{} never used {unused:#?}", self.name))
            }
        })
        .with_context(log)
    }

    fn is_refused_nothing(&self, control_plane: &ControlPlane) -> Result<()> {
        let refused = self.audit(control_plane)?.refused;
        ensure!(
            refused.is_empty(),
            "{} was refused: {}",
            self.name,
            refused.join("\n")
        );
        Ok(())
    }
}

/// The service accounts, roles and bindings of the chart with everything on.
pub(crate) fn rendered() -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests/everything.yaml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let kinds = [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ];
    let mut documents = values(&text)?;
    documents.retain(|document| {
        document["kind"]
            .as_str()
            .is_some_and(|kind| kinds.contains(&kind))
    });
    Ok(documents)
}

/// The names of the agent's account and the operator's.
pub(crate) const ACCOUNTS: [&str; 2] = ["herald", "herald-operator"];

/// What all roles that are bound to an account say.
fn granted(documents: &[Value], account: &str) -> BTreeSet<Right> {
    let bindings = documents.iter().filter(|document| {
        let mut subjects = document["subjects"].as_array().into_iter().flatten();
        subjects.any(|subject| subject["name"] == account && subject["namespace"] == NAMESPACE)
    });
    let mut granted = BTreeSet::new();
    for binding in bindings {
        let namespace = binding["metadata"]["namespace"].as_str().unwrap_or_default();
        let roles = documents.iter().filter(|document| {
            document["kind"] == binding["roleRef"]["kind"]
                && document["metadata"]["name"] == binding["roleRef"]["name"]
                && document["metadata"]["namespace"] == binding["metadata"]["namespace"]
        });
        for rule in roles.flat_map(|role| role["rules"].as_array().into_iter().flatten()) {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    granted.extend(words(&rule["verbs"]).map(|verb| Right {
                        namespace: namespace.to_owned(),
                        group: group.to_owned(),
                        resource: resource.to_owned(),
                        verb: verb.to_owned(),
                    }));
                }
            }
        }
    }
    granted
}

fn words(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The operator and the agent do their work with what the chart grants: nothing of it is too little, and nothing too
/// much.
pub(crate) fn enough_and_no_more(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let documents = rendered()?;
    let secret =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "any", "namespace": SECRETS } });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "fresh" } });
    let mut asking = cilium_node("one", &[("group", "a")]);
    asking["spec"]["ipam"] =
        json!({ "pools": { "requested": [{ "pool": "blue", "needed": { "ipv4-addrs": 1 } }] } });
    let tor = json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPPeerConfig",
        "metadata": { "name": "tor" },
        "spec": { "authSecretRef": "nobody" },
    });
    let plain = service("plain", json!({}));
    let mut rack = cluster_config("rack", "a");
    let pods = pod_pool("blue", &["10.20.0.0/24"]);
    let main = pool("main", &["10.99.0.0/24"]);
    stage(
        api,
        &[
            main,
            pods,
            plain.clone(),
            rack.clone(),
            tor,
            asking.clone(),
            node,
            secret.clone(),
        ],
    )?;
    // What is there of earlier operators is made anew.
    let old = crds::definition(Kind::CiliumBGPAdvertisement).context("it is ours")?;
    // Another one has the kind of ours for a while, so ours is not served at once: it must be waited for.
    let mut all = crds::definitions().into_iter();
    let gateways = all.find(|definition| definition.metadata.name.as_deref() == Some(GATEWAYS));
    let mut foreign = gateways.context("it is ours")?;
    foreign.metadata.name = Some(FOREIGN.to_owned());
    foreign.spec.names.plural = "foreigners".to_owned();
    foreign.spec.names.singular = Some("foreigner".to_owned());
    foreign.spec.names.short_names = None;
    api.block_on(async {
        for document in &documents {
            api.apply(document).await?;
        }
        let leases = api.leases(NAMESPACE);
        if leases.get_opt("stentor-operator").await?.is_some() {
            leases
                .delete("stentor-operator", &DeleteParams::default())
                .await?;
        }
        api.undefine(GATEWAYS).await?;
        api.define(&foreign).await?;
        let mut old = old;
        let label = (SCHEMA_VERSION_LABEL.to_owned(), "1.0.0".to_owned());
        old.metadata.labels = Some(std::iter::once(label).collect());
        api.define(&old).await
    })?;
    let [agent, operator] = ACCOUNTS;
    let operator = Account::new(control_plane, api, &documents, operator)?;
    let options = [
        "--enable-node-ipam",
        "--ipam",
        "multi-pool",
        "--bgp-secrets-namespace",
        SECRETS,
    ];
    let mut running = Operator::of(&operator.kubeconfig, &options)?;
    lab::until(LIMIT, "a definition to be waited for", || {
        let used = operator
            .audit(control_plane)
            .map_err(|error| format!("{error:#}"))?
            .used;
        let waits = |right: &Right| right.resource == "customresourcedefinitions" && right.verb == "watch";
        if used.iter().any(waits) {
            Ok(())
        } else {
            Err(format!("{used:#?}"))
        }
    })
    .with_context(|| running.log())?;
    api.block_on(api.undefine(FOREIGN))?;
    operator::until(api, &running, "an address", &plain, |object| {
        !ips(object).is_empty()
    })?;
    operator::until(api, &running, "the node config", &node_config("one"), |_| true)?;
    // It changes, and goes with its node.
    rack["spec"]["bgpInstances"][0]["localASN"] = json!(64999);
    api.block_on(api.apply(&rack))?;
    operator::until(api, &running, "the change", &node_config("one"), |found| {
        found["spec"]["bgpInstances"][0]["localASN"] == 64999
    })?;
    operator::until(api, &running, "a prefix", &asking, |found| {
        found["spec"]["ipam"]["pools"]["allocated"][0]["pool"] == "blue"
    })?;
    api.block_on(api.delete(&asking))?;
    operator.uses_all(control_plane, || running.log())?;
    running.settled()?;
    let off = running.metric("stentor_operator_part_off")?;
    ensure!(off == 0.0, "a part is off: {}", running.log());
    operator.is_refused_nothing(control_plane)?;
    running.ends_well()?;

    let agent = Account::new(control_plane, api, &documents, agent)?;
    let mut own = node_config("one");
    own["spec"] = json!({ "bgpInstances": [{ "name": "main", "localASN": 65001, "routerID": "10.0.0.1" }] });
    api.block_on(api.apply(&own))?;
    // What a load balancer said that is switched off now is taken back.
    let of_node = cilium_node("one", &[("group", "a")]);
    let full =
        json!({ "load-balancer": { "refused": [{ "map": "SETS", "limit": 1024, "services": ["a/b"] }] } });
    api.block_on(async {
        api.apply(&of_node).await?;
        api.status(&of_node, full).await
    })?;
    let mut running = Agent::of(&agent.kubeconfig, "one", &["--bgp-secrets-namespace", SECRETS])?;
    // As with the load balancer, which would work on the devices of this machine.
    api.block_on(async {
        let scope = Scope {
            node: "one".to_owned(),
            nodes: Nodes::All,
            node_configs: Nodes::All,
            secrets_namespace: Some(SECRETS.to_owned()),
        };
        let cluster = Cluster::find(Some(&agent.kubeconfig)).await?;
        let (rescan, mut batches, task) = start(cluster, &scope)?;
        let first = timeout(LIMIT, batches.recv())
            .await?
            .context("the source ended")?;
        ensure!(first.problems.is_empty(), "{:?}", first.problems);
        drop((rescan, batches));
        Ok(timeout(LIMIT, task).await??)
    })?;
    agent.uses_all(control_plane, || running.log())?;
    agent.is_refused_nothing(control_plane)?;
    running.ends_well()?;
    cleared(api, &documents, &[own, secret])
}

/// A rule that is missing switches off what needs it, which says so; the rest goes on. Granted later, it is used.
pub(crate) fn one_missing(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let documents = rendered()?;
    let without = |resource: &str| {
        let lacks = |rule: &Value| !words(&rule["resources"]).any(|word| word.starts_with(resource));
        let cut = |document: &Value| {
            let mut document = document.clone();
            if let Some(rules) = document.get_mut("rules").and_then(Value::as_array_mut) {
                rules.retain(lacks);
            }
            document
        };
        documents.iter().map(cut).collect::<Vec<Value>>()
    };
    let apply = |documents: &[Value]| {
        api.block_on(async {
            for document in documents {
                api.apply(document).await?;
            }
            anyhow::Ok(())
        })
    };
    let plain = service("plain", json!({}));
    let (rack, node) = (cluster_config("rack", "a"), cilium_node("one", &[("group", "a")]));
    stage(api, &[pool("main", &["10.99.0.0/24"]), plain.clone(), rack, node])?;
    let [agent, operator] = ACCOUNTS;
    let fewer = without("ciliumloadbalancerippools");
    apply(&fewer)?;
    let account = Account::new(control_plane, api, &fewer, operator)?;
    for right in granted(&documents, operator).difference(&account.granted) {
        account.until_granted(api, right, Granted::No)?;
    }
    let mut running = Operator::of(&account.kubeconfig, &["--bgp-secrets-namespace", SECRETS])?;
    operator::until(api, &running, "the node config", &node_config("one"), |_| true)?;
    running.settled()?;
    let off = running.metric("stentor_operator_part_off")?;
    ensure!(off == 1.0, "{off} parts are off: {}", running.log());
    ensure!(
        running.log().contains("CiliumLoadBalancerIPPool"),
        "{}",
        running.log()
    );
    let found = api.block_on(api.find(&plain))?.context("it is there")?;
    ensure!(ips(&found).is_empty(), "{found}");
    apply(&documents)?;
    operator::until(api, &running, "an address", &plain, |object| {
        !ips(object).is_empty()
    })?;
    running.ends_well()?;

    let fewer = without("ciliumbgpnodeconfigs/status");
    apply(&fewer)?;
    let account = Account::new(control_plane, api, &fewer, agent)?;
    for right in granted(&documents, agent).difference(&account.granted) {
        account.until_granted(api, right, Granted::No)?;
    }
    let mut running = Agent::of(&account.kubeconfig, "one", &["--bgp-secrets-namespace", SECRETS])?;
    let says = |status: &Value| status.to_string().contains("report-refused");
    running.until("the agent to say what it may not", &["status"], says)?;
    apply(&documents)?;
    running.until("the agent to say that it may", &["status"], |status| {
        !says(status)
    })?;
    let found = api
        .block_on(api.find(&node_config("one")))?
        .context("it is there")?;
    ensure!(found["status"]["bgpInstances"][0]["name"] == "main", "{found}");
    running.ends_well()?;
    cleared(api, &documents, &[])
}

pub(crate) fn cleared(api: &Api, documents: &[Value], others: &[Value]) -> Result<()> {
    api.block_on(async {
        for document in documents.iter().chain(others) {
            api.remove(document).await?;
        }
        anyhow::Ok(())
    })?;
    stage(api, &[])
}
