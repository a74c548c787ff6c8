//! Carries our custom resource definitions to an API server, and waits until it serves them.

use std::time::Duration;

use crds::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use tokio::time::timeout;

use super::writes::FIELD_MANAGER;
use crate::operator::definitions::{Step, judge, upgraded};
use crate::source::kube::chain;

/// Until a definition is served; an API server takes a second or two.
const ESTABLISHED: Duration = Duration::from_secs(30);
/// Somebody else may write between our look and our write.
const TRIES: usize = 3;

/// What was not possible with one definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}")]
pub struct NotInstalled {
    pub name: String,
    pub why: String,
}

/// Installs what is missing and upgrades what is older. One that can not be written keeps no other from it.
pub async fn install(client: &Client) -> Vec<NotInstalled> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut failed = Vec::new();
    let mut written = Vec::new();
    for ours in crds::definitions() {
        let name = ours.metadata.name.clone().unwrap_or_default();
        match install_one(&api, &name, &ours).await {
            Ok(()) => written.push(name),
            Err(why) => failed.push(NotInstalled { name, why }),
        }
    }
    // All at once: each becomes served by itself.
    for name in written {
        let established = await_condition(api.clone(), &name, is_crd_established());
        let why = match timeout(ESTABLISHED, established).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => chain(&error),
            Err(_) => format!(
                "it is not served after {} s; see the conditions of the definition",
                ESTABLISHED.as_secs()
            ),
        };
        failed.push(NotInstalled { name, why });
    }
    failed
}

async fn install_one(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    ours: &CustomResourceDefinition,
) -> Result<(), String> {
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let mut outdated = String::new();
    for _ in 0..TRIES {
        let found = api.get_opt(name).await.map_err(|error| chain(&error))?;
        let step = judge(found.as_ref(), ours);
        let written = match (step, found) {
            (Step::Upgrade, Some(found)) => api.replace(name, &params, &upgraded(&found, ours)).await,
            (Step::Create | Step::Upgrade, _) => api.create(&params, ours).await,
            (Step::Fine, _) => return Ok(()),
            (Step::Newer | Step::NewerAdditions, _) => {
                tracing::info!(name, "the definition in the cluster is newer than ours; it stays");
                return Ok(());
            }
        };
        match written {
            Ok(_) => {
                tracing::info!(name, ?step, "definition written");
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => outdated = status.message.clone(),
            Err(error) => return Err(chain(&error)),
        }
    }
    Err(outdated)
}
