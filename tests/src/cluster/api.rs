//! The API server as a test sees it: manifests in, verdicts out.

use std::path::Path;

use anyhow::{Context as _, Result};
use crds::k8s_openapi::api::coordination::v1::Lease;
use crds::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api as Resource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::discovery::{Scope, pinned_kind};
use kube::runtime::conditions::{is_crd_established, is_deleted};
use kube::runtime::wait::await_condition;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::LIMIT;

/// A client with a runtime of its own.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

/// What an API server says to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    Refused(String),
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl Api {
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let read = kube::config::Kubeconfig::read_from(kubeconfig)?;
            let config =
                Config::from_custom_kubeconfig(read, &kube::config::KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client })
    }

    /// For whoever speaks to it in types.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Makes or replaces a definition and waits until it is served.
    pub async fn define(&self, definition: &CustomResourceDefinition) -> Result<()> {
        let api: Resource<CustomResourceDefinition> = Resource::all(self.client.clone());
        let name = definition
            .metadata
            .name
            .as_deref()
            .context("a definition has a name")?;
        let params = PatchParams::apply("test").force();
        api.patch(name, &params, &Patch::Apply(definition))
            .await
            .with_context(|| format!("apply {name}"))?;
        let established = await_condition(api.clone(), name, is_crd_established());
        timeout(LIMIT, established)
            .await
            .with_context(|| format!("{name} to be established"))??;
        Ok(())
    }

    pub async fn definition(&self, name: &str) -> Result<CustomResourceDefinition> {
        Ok(Resource::all(self.client.clone()).get(name).await?)
    }

    /// Applies an object, and the namespace it is in.
    pub async fn apply(&self, document: &Value) -> Result<()> {
        if let Some(namespace) = document["metadata"]["namespace"].as_str() {
            let namespace =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            Box::pin(self.apply(&namespace)).await?;
        }
        self.patch(document, &PatchParams::apply("test").force()).await
    }

    /// What applying it would come to. Nothing is stored, and a field that nobody knows is an error.
    pub async fn would_apply(&self, document: &Value) -> Result<()> {
        let params = PatchParams::apply("test").dry_run().validation_strict();
        self.patch(document, &params).await
    }

    async fn patch(&self, document: &Value, params: &PatchParams) -> Result<()> {
        let (api, object) = self.resource(document).await?;
        let name = object.metadata.name.clone().context("an object has a name")?;
        api.patch(&name, params, &Patch::Apply(&object))
            .await
            .with_context(|| format!("apply {document}"))?;
        Ok(())
    }

    pub async fn delete(&self, document: &Value) -> Result<()> {
        let (api, object) = self.resource(document).await?;
        let name = object.metadata.name.context("an object has a name")?;
        api.delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// What is there by the name of a document, if anything.
    pub async fn find(&self, document: &Value) -> Result<Option<Value>> {
        let (api, object) = self.resource(document).await?;
        let name = object.metadata.name.context("an object has a name")?;
        let found = api.get_opt(&name).await?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }

    /// Every object of the kind of a document, in its namespace if it has one.
    pub async fn all(&self, document: &Value) -> Result<Vec<Value>> {
        let (api, _) = self.resource(document).await?;
        let list = api.list(&ListParams::default()).await?;
        list.items
            .into_iter()
            .map(|object| Ok(serde_json::to_value(object)?))
            .collect()
    }

    /// What `kubectl get` shows of a path: the names of its columns, then a row for each object.
    pub async fn table(&self, path: &str) -> Result<Vec<Vec<String>>> {
        let request = hyper::Request::get(path)
            .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())?;
        let table: Value = self.client.request(request).await?;
        let list = |name: &str| table[name].as_array().cloned().unwrap_or_default();
        let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        let header = list("columnDefinitions")
            .iter()
            .map(|column| text(&column["name"]))
            .collect();
        let row = |row: &Value| row["cells"].as_array().into_iter().flatten().map(text).collect();
        let rows = list("rows");
        Ok(std::iter::once(header).chain(rows.iter().map(row)).collect())
    }

    /// A token of a service account.
    pub async fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let asked = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let request = hyper::Request::post(path)
            .header("Content-Type", "application/json")
            .body(asked.to_string().into_bytes())?;
        let answer: Value = self.client.request(request).await?;
        let token = answer["status"]["token"].as_str();
        Ok(token.with_context(|| format!("no token: {answer}"))?.to_owned())
    }

    /// Whether the server knows who this is.
    pub async fn is_known(&self) -> Result<()> {
        let request = hyper::Request::get("/version").body(Vec::new())?;
        self.client.request_text(request).await?;
        Ok(())
    }

    /// Whether a user may do something, in a namespace or (if that is empty) everywhere.
    pub async fn may(&self, user: &str, attributes: Value) -> Result<bool> {
        let asked = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": { "user": user, "groups": ["system:serviceaccounts"], "resourceAttributes": attributes },
        });
        let request = hyper::Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
            .header("Content-Type", "application/json")
            .body(asked.to_string().into_bytes())?;
        let answer: Value = self.client.request(request).await?;
        Ok(answer["status"]["allowed"] == true)
    }

    /// Removes a definition, and waits until it is gone.
    pub async fn undefine(&self, name: &str) -> Result<()> {
        let api: Resource<CustomResourceDefinition> = Resource::all(self.client.clone());
        let found = api.get(name).await?;
        api.delete(name, &DeleteParams::default()).await?;
        let uid = found.metadata.uid.unwrap_or_default();
        let gone = is_deleted(&uid);
        timeout(LIMIT, await_condition(api, name, gone))
            .await
            .with_context(|| format!("{name} to go"))??;
        Ok(())
    }

    /// Writes the status of an object as it is said, by somebody who asks nobody.
    pub async fn status(&self, document: &Value, status: Value) -> Result<()> {
        let (api, object) = self.resource(document).await?;
        let name = object.metadata.name.context("an object has a name")?;
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(&name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Deletes what may be gone already.
    pub async fn remove(&self, document: &Value) -> Result<()> {
        match self.find(document).await? {
            Some(_) => self.delete(document).await,
            None => Ok(()),
        }
    }

    pub fn leases(&self, namespace: &str) -> Resource<Lease> {
        Resource::namespaced(self.client.clone(), namespace)
    }

    /// What the server would say to it. Nothing is stored.
    pub async fn judge(&self, document: &Value) -> Result<Verdict> {
        let (api, object) = self.resource(document).await?;
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        match api.create(&params, &object).await {
            Ok(_) => Ok(Verdict::Taken),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
                Ok(Verdict::Refused(status.message.clone()))
            }
            Err(error) => Err(error).with_context(|| format!("judge {document}")),
        }
    }

    async fn resource(&self, document: &Value) -> Result<(Resource<DynamicObject>, DynamicObject)> {
        let text = |name: &str| document[name].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion")
            .split_once('/')
            .unwrap_or(("", text("apiVersion")));
        let gvk = GroupVersionKind::gvk(group, version, text("kind"));
        let (resource, capabilities) = pinned_kind(&self.client, &gvk)
            .await
            .with_context(|| format!("find {gvk:?}"))?;
        let object: DynamicObject = serde_json::from_value(document.clone())?;
        let api = match (capabilities.scope, object.metadata.namespace.as_deref()) {
            (Scope::Namespaced, namespace) => {
                Resource::namespaced_with(self.client.clone(), namespace.unwrap_or("default"), &resource)
            }
            (Scope::Cluster, _) => Resource::all_with(self.client.clone(), &resource),
        };
        Ok((api, object))
    }
}

/// The documents of a file of `tests/cluster`.
pub fn documents(name: &str) -> Result<Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    values(&text).with_context(|| path.display().to_string())
}

pub fn values(text: &str) -> Result<Vec<Value>> {
    let documents = text.split("\n---\n").filter(|text| {
        text.lines()
            .any(|line| !line.trim().is_empty() && !line.starts_with('#') && line != "---")
    });
    documents.map(|text| Ok(serde_saphyr::from_str(text)?)).collect()
}
