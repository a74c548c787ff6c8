//! Kinds that are defined and not read yet.
//!
//! Some have no spec, or rules beside it, or a status that is no subresource, so kube's derive can not define them: their
//! type is the whole object, and what stands around its schema is written here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use serde_json::{Value as Json, json};

use super::{Body, Outline};
use crate::cidr_group::CiliumCIDRGroup;
use crate::cilium_endpoint::CiliumEndpoint;
use crate::cilium_identity::CiliumIdentity;
use crate::egress_gateway_policy::CiliumEgressGatewayPolicy;
use crate::l2_announcement_policy::CiliumL2AnnouncementPolicy;
use crate::local_redirect_policy::CiliumLocalRedirectPolicy;
use crate::object::Version;
use crate::policy::{CiliumClusterwideNetworkPolicy, CiliumNetworkPolicy};

pub(super) fn outlines() -> [Outline; 8] {
    let v2 = |generated, body| Outline {
        generated,
        versions: &[Version::V2],
        absent: |_| &[],
        body,
    };
    [
        Outline {
            versions: &[Version::V2Alpha1],
            ..v2(CiliumL2AnnouncementPolicy::crd(), Body::OptionalSpec)
        },
        Outline {
            versions: &[Version::V2, Version::V2Alpha1],
            ..v2(CiliumCIDRGroup::crd(), Body::Spec)
        },
        v2(
            whole::<CiliumLocalRedirectPolicy>(LOCAL_REDIRECT_POLICY),
            Body::Fields,
        ),
        v2(CiliumEgressGatewayPolicy::crd(), Body::OptionalSpec),
        v2(whole::<CiliumNetworkPolicy>(NETWORK_POLICY), Body::Fields),
        v2(
            whole::<CiliumClusterwideNetworkPolicy>(CLUSTERWIDE_NETWORK_POLICY),
            Body::Fields,
        ),
        v2(whole::<CiliumEndpoint>(ENDPOINT), Body::Fields),
        v2(whole::<CiliumIdentity>(IDENTITY), Body::Fields),
    ]
}

/// What stands around the schema of a kind whose type is the whole object.
struct Frame {
    kind: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    scope: &'static str,
    /// Whether the status is written apart.
    subresources: &'static [Subresource],
    columns: &'static [Column],
}

enum Subresource {
    Status,
}

struct Column {
    name: &'static str,
    kind: &'static str,
    description: Option<&'static str>,
    path: &'static str,
    /// 1: shown with `-o wide` only.
    priority: Option<i32>,
}

const AGE: Column = Column {
    name: "Age",
    kind: "date",
    description: None,
    path: ".metadata.creationTimestamp",
    priority: None,
};

const VALID: Column = Column {
    name: "Valid",
    kind: "string",
    description: None,
    path: ".status.conditions[?(@.type=='Valid')].status",
    priority: None,
};

const NETWORK_POLICY: Frame = Frame {
    kind: "CiliumNetworkPolicy",
    plural: "ciliumnetworkpolicies",
    short_names: &["cnp", "ciliumnp"],
    categories: &["cilium", "ciliumpolicy"],
    scope: "Namespaced",
    subresources: &[Subresource::Status],
    columns: &[AGE, VALID],
};

const CLUSTERWIDE_NETWORK_POLICY: Frame = Frame {
    kind: "CiliumClusterwideNetworkPolicy",
    plural: "ciliumclusterwidenetworkpolicies",
    short_names: &["ccnp"],
    categories: &["cilium", "ciliumpolicy"],
    scope: "Cluster",
    subresources: &[Subresource::Status],
    columns: &[VALID],
};

const LOCAL_REDIRECT_POLICY: Frame = Frame {
    kind: "CiliumLocalRedirectPolicy",
    plural: "ciliumlocalredirectpolicies",
    short_names: &["clrp"],
    categories: &["cilium", "ciliumpolicy"],
    scope: "Namespaced",
    subresources: &[],
    columns: &[AGE],
};

const ENDPOINT: Frame = Frame {
    kind: "CiliumEndpoint",
    plural: "ciliumendpoints",
    short_names: &["cep", "ciliumep"],
    categories: &["cilium"],
    scope: "Namespaced",
    subresources: &[],
    columns: &[
        described(
            "Security Identity",
            "integer",
            "Security Identity",
            ".status.identity.id",
        ),
        Column {
            priority: Some(1),
            ..described(
                "Ingress Enforcement",
                "string",
                "Ingress enforcement in the endpoint",
                ".status.policy.ingress.state",
            )
        },
        Column {
            priority: Some(1),
            ..described(
                "Egress Enforcement",
                "string",
                "Egress enforcement in the endpoint",
                ".status.policy.egress.state",
            )
        },
        described(
            "Endpoint State",
            "string",
            "Endpoint current state",
            ".status.state",
        ),
        described(
            "IPv4",
            "string",
            "Endpoint IPv4 address",
            ".status.networking.addressing[0].ipv4",
        ),
        described(
            "IPv6",
            "string",
            "Endpoint IPv6 address",
            ".status.networking.addressing[0].ipv6",
        ),
    ],
};

const IDENTITY: Frame = Frame {
    kind: "CiliumIdentity",
    plural: "ciliumidentities",
    short_names: &["ciliumid"],
    categories: &["cilium"],
    scope: "Cluster",
    subresources: &[Subresource::Status],
    columns: &[
        described(
            "Namespace",
            "string",
            "The namespace of the entity",
            r".metadata.labels.io\.kubernetes\.pod\.namespace",
        ),
        Column {
            description: Some("The age of the identity"),
            ..AGE
        },
    ],
};

const fn described(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    path: &'static str,
) -> Column {
    Column {
        name,
        kind,
        description: Some(description),
        path,
        priority: None,
    }
}

fn whole<T: JsonSchema>(frame: Frame) -> CustomResourceDefinition {
    let owned = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
    let names = CustomResourceDefinitionNames {
        kind: frame.kind.to_owned(),
        list_kind: Some(format!("{}List", frame.kind)),
        plural: frame.plural.to_owned(),
        singular: Some(frame.kind.to_lowercase()),
        short_names: owned(frame.short_names),
        categories: owned(frame.categories),
    };
    let columns = frame.columns.iter().map(column).collect();
    let mut subresources = CustomResourceSubresources::default();
    for subresource in frame.subresources {
        match subresource {
            Subresource::Status => subresources.status = Some(CustomResourceSubresourceStatus(json!({}))),
        }
    }
    let version = CustomResourceDefinitionVersion {
        additional_printer_columns: Some(columns),
        schema: Some(CustomResourceValidation {
            // Whatever is wrong with it shows in the tests: it depends on the program alone.
            open_api_v3_schema: serde_json::from_value(schema::<T>()).ok(),
        }),
        subresources: Some(subresources),
        ..CustomResourceDefinitionVersion::default()
    };
    CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{}.cilium.io", frame.plural)),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: "cilium.io".to_owned(),
            names,
            scope: frame.scope.to_owned(),
            versions: vec![version],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

fn column(column: &Column) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: column.name.to_owned(),
        type_: column.kind.to_owned(),
        description: column.description.map(str::to_owned),
        json_path: column.path.to_owned(),
        priority: column.priority,
        ..CustomResourceColumnDefinition::default()
    }
}

/// As kube's derive makes it.
fn schema<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}
