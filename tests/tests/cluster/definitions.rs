//! Our custom resource definitions, judged by a real API server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use crds::Reason;
use crds::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use lab::kubernetes::{Assets, ControlPlane};
use serde_json::Value;
use stentor_tests::cluster::{Api, Verdict, documents, values};

/// A schema that is not structural, or a name that clashes, shows as a condition.
pub(crate) fn established(_: &mut ControlPlane, api: &Api) -> Result<()> {
    api.block_on(async {
        for definition in crds::definitions() {
            api.define(&definition).await?;
            let name = definition.metadata.name.unwrap_or_default();
            let made = api.definition(&name).await?;
            let status = made.status.context("it has a status")?;
            for condition in status.conditions.unwrap_or_default() {
                let fine = ["Established", "NamesAccepted"].contains(&condition.type_.as_str());
                ensure!(fine && condition.status == "True", "{name}: {condition:?}");
            }
        }
        Ok(())
    })
}

/// The API server and our own reader say the same: what one refuses, the other finds an error in.
fn judged(api: &Api, expected: &[(Value, bool)]) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for (document, good) in expected {
        let verdict = api.block_on(api.judge(document))?;
        if (verdict == Verdict::Taken) != *good {
            differences.push(format!(
                "{} {}: {verdict:?}",
                document["apiVersion"], document["metadata"]["name"]
            ));
        }
    }
    Ok(differences)
}

/// Documents of the kinds we read.
fn expected() -> Result<Vec<(Value, bool)>> {
    both("good.yaml", "bad.yaml")
}

/// Documents of the kinds that are only defined.
fn expected_of_unread() -> Result<Vec<(Value, bool)>> {
    both("good-policy.yaml", "bad-policy.yaml")
}

fn both(good: &str, bad: &str) -> Result<Vec<(Value, bool)>> {
    let good = documents(good)?.into_iter().map(|document| (document, true));
    let bad = documents(bad)?.into_iter().map(|document| (document, false));
    Ok(good.chain(bad).collect())
}

pub(crate) fn good_and_bad(_: &mut ControlPlane, api: &Api) -> Result<()> {
    let expected = expected()?;
    ensure!(expected.len() > 40, "{} documents", expected.len());
    let mut differences = judged(api, &expected)?;
    for (document, good) in &expected {
        let read = crds::read_json(Path::new("test"), document);
        if read.bad.is_empty() && !good {
            differences.push(format!("our reader takes {}", document["metadata"]["name"]));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// Our reader has no say about these kinds, and says so.
pub(crate) fn good_and_bad_of_unread(_: &mut ControlPlane, api: &Api) -> Result<()> {
    let expected = expected_of_unread()?;
    ensure!(expected.len() > 40, "{} documents", expected.len());
    let mut differences = judged(api, &expected)?;
    for (document, _) in &expected {
        let read = crds::read_json(Path::new("test"), document);
        let is_told = read
            .problems
            .iter()
            .any(|problem| problem.reason == Reason::UnreadKind);
        if !is_told || !read.objects.is_empty() {
            differences.push(format!("our reader reads {}", document["metadata"]["name"]));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// Rules about the change of an object hold only once there is one.
pub(crate) fn immutable(_: &mut ControlPlane, api: &Api) -> Result<()> {
    let all = documents("good-policy.yaml")?;
    let policy = all
        .iter()
        .find(|document| document["metadata"]["name"] == "good-by-address")
        .context("the document good-by-address")?;
    api.block_on(api.apply(policy))?;
    let mut described = policy.clone();
    described["spec"]["description"] = "may be changed".into();
    api.block_on(api.apply(&described))?;
    for (field, value) in [
        (
            "/spec/redirectFrontend/addressMatcher/ip",
            Value::from("10.0.0.1"),
        ),
        ("/spec/redirectBackend/toPorts/0/port", Value::from("81")),
        ("/spec/skipRedirectFromBackend", Value::from(false)),
    ] {
        let mut changed = policy.clone();
        *changed.pointer_mut(field).context(field)? = value;
        let Err(error) = api.block_on(api.apply(&changed)) else {
            bail!("{field} was changed");
        };
        ensure!(
            format!("{error:#}").contains("is immutable"),
            "{field}: {error:#}"
        );
    }
    api.block_on(api.delete(policy))
}

/// Where the stock definitions are at hand, they judge too: so the documents themselves are right. They have an API server
/// of their own, as a definition that takes the place of another must wait for its objects to go.
pub(crate) fn stock(_: &mut ControlPlane, _: &Api) -> Result<()> {
    let Some(folder) = stock_folder() else {
        println!("no stock definitions here; set STENTOR_CONFORMANCE");
        return Ok(());
    };
    let own = ControlPlane::start(&Assets::find()?)?;
    let api = Api::new(&own.kubeconfig())?;
    api.block_on(async {
        let ours = crds::definitions();
        for version in ["v2", "v2alpha1"] {
            for entry in std::fs::read_dir(folder.join(version))? {
                let path = entry?.path();
                for document in values(&std::fs::read_to_string(&path)?)? {
                    let definition: CustomResourceDefinition = serde_json::from_value(document)?;
                    let known = ours
                        .iter()
                        .any(|ours| ours.metadata.name == definition.metadata.name);
                    if known {
                        api.define(&definition)
                            .await
                            .with_context(|| path.display().to_string())?;
                    }
                }
            }
        }
        anyhow::Ok(())
    })?;
    let mut differences = judged(&api, &expected()?)?;
    differences.extend(judged(&api, &expected_of_unread()?)?);
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

fn stock_folder() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let folder = std::env::var_os("STENTOR_CONFORMANCE").map_or(default, PathBuf::from);
    Some(folder.join("crds")).filter(|folder| folder.is_dir())
}
