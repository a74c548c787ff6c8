//! What the Helm chart comes to, as the API server sees it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::ControlPlane;
use serde_json::json;
use stentor_tests::cluster::{Api, values};

/// Kinds of Prometheus' operator: nothing defines them here.
const MONITORS: &str = "monitoring.coreos.com/v1";

/// Every rendering of the chart, to the last field. Nothing is stored, but for the namespaces they are in.
pub(crate) fn manifests(_: &mut ControlPlane, api: &Api) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests");
    let mut judged = 0;
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        // The first document is the comment before it.
        for document in values(&text).with_context(|| path.display().to_string())? {
            if document.is_null() || document["apiVersion"] == MONITORS {
                continue;
            }
            api.block_on(async {
                if let Some(namespace) = document["metadata"]["namespace"].as_str() {
                    let namespace =
                        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
                    api.apply(&namespace).await?;
                }
                api.would_apply(&document).await
            })
            .with_context(|| path.display().to_string())?;
            judged += 1;
        }
    }
    ensure!(judged > 40, "only {judged} documents");
    Ok(())
}
