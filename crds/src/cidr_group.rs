//! `CiliumCIDRGroup`: prefixes under a name, for network policies. Defined, not read yet.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;

/// Prefixes that policies refer to by the name of this object.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "cilium.io",
    version = "v2",
    kind = "CiliumCIDRGroup",
    plural = "ciliumcidrgroups",
    shortname = "ccg",
    category = "cilium",
    derive = "PartialEq"
)]
pub struct CidrGroupSpec {
    #[serde(rename = "externalCIDRs")]
    #[schemars(schema_with = "text::cidrs_schema", length(min = 0))]
    pub external_cidrs: Vec<String>,
}
