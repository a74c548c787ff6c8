//! Our custom resource definitions, judged by a real API server.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use crds::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use lab::kubernetes::ControlPlane;
use serde_json::Value;

use crate::api::{Api, Verdict, documents, values};

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

fn expected() -> Result<Vec<(Value, bool)>> {
    let good = documents("good.yaml")?
        .into_iter()
        .map(|document| (document, true));
    let bad = documents("bad.yaml")?
        .into_iter()
        .map(|document| (document, false));
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

/// Where the stock definitions are at hand, they take the place of ours: so the documents themselves are right.
pub(crate) fn stock(_: &mut ControlPlane, api: &Api) -> Result<()> {
    let Some(folder) = stock_folder() else {
        println!("no stock definitions here; set STENTOR_CONFORMANCE");
        return Ok(());
    };
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
                        let name = definition.metadata.name.clone().unwrap_or_default();
                        api.undefine(&name).await?;
                        api.define(&definition)
                            .await
                            .with_context(|| path.display().to_string())?;
                    }
                }
            }
        }
        anyhow::Ok(())
    })?;
    let differences = judged(api, &expected()?)?;
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

fn stock_folder() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance");
    let folder = std::env::var_os("STENTOR_CONFORMANCE").map_or(default, PathBuf::from);
    Some(folder.join("crds")).filter(|folder| folder.is_dir())
}
