//! `CiliumIdentity`: a security identity, shared by all endpoints with the same labels. Defined, not read yet.
//!
//! It has no spec: what matters are its name, which is the number, and its labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::TypeMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A security identity. The name of the object is its number, in decimal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CiliumIdentity {
    #[serde(flatten)]
    #[schemars(skip)]
    pub types: Option<TypeMeta>,
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// The labels that make the identity, each with its source: `k8s:app` to `web`. Those of `metadata` are for
    /// searching only.
    pub security_labels: BTreeMap<String, String>,
}
