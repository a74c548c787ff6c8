//! The password of a session. A wished-for password that can't be had keeps the session down with a named reason.

use bgp_speaker::config::Auth;
use bgp_speaker::types::Secret;
use crds::{Parsed, Severity};

use super::advertise::Ground;
use crate::problem::Problem;
use crate::world::Objects;

/// Why a password can't be had. `Display` never shows any part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPassword {
    #[error("no namespace of BGP Secrets is set (bgp-secrets-namespace), so Secret {0} can not be looked up")]
    NoNamespace(String),
    #[error("Secret {namespace}/{name} does not exist")]
    Missing { namespace: String, name: String },
    #[error("Secret {namespace}/{name} has no key 'password', or an empty one")]
    NoKey { namespace: String, name: String },
    #[error("the password in Secret {namespace}/{name} has {length} octets; TCP-MD5 takes at most 80")]
    TooLong {
        namespace: String,
        name: String,
        length: usize,
    },
}

impl NoPassword {
    fn name(&self) -> &'static str {
        match self {
            Self::NoNamespace(_) => "no-secrets-namespace",
            Self::Missing { .. } => crds::Reason::MissingAuthSecret.as_str(),
            Self::NoKey { .. } => crds::Reason::NoPassword.as_str(),
            Self::TooLong { .. } => "password-too-long",
        }
    }
}

/// `place` is where the Secret is asked for.
pub(crate) fn auth(
    secret: Option<&str>,
    ground: &Ground<'_>,
    place: Option<(&Parsed, &str)>,
    problems: &mut Vec<Problem>,
) -> Auth {
    let Some(name) = secret else { return Auth::None };
    let namespace = ground.options.secrets_namespace.as_deref();
    let found = match namespace {
        None | Some("") => Err(NoPassword::NoNamespace(name.to_owned())),
        Some(namespace) => password(&ground.world.objects, namespace, name),
    };
    let mut tell = |severity, reason, message: String| {
        let problem = match place {
            Some((parsed, field)) => Problem::at(parsed, field, severity, reason, message),
            None => Problem::here(severity, reason, message),
        };
        // Several peers may share the object.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    match found {
        Err(why) => {
            tell(Severity::Error, why.name(), format!("sessions stay down: {why}"));
            Auth::Missing {
                reason: why.to_string().into(),
            }
        }
        Ok((key, ends_in_newline)) => {
            if ends_in_newline {
                let message = format!(
                    "the password in Secret {name} ends in a line break, which is part of it; if the peer's does not, \
                     remove it (echo -n)"
                );
                tell(Severity::Warning, "password-ends-in-line-break", message);
            }
            Auth::Md5(key)
        }
    }
}

/// The key, raw, and whether it ends in a line break.
fn password(objects: &Objects, namespace: &str, name: &str) -> Result<(Secret, bool), NoPassword> {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let Some(secret) = objects.secret(&namespace, &name) else {
        return Err(NoPassword::Missing { namespace, name });
    };
    // `stringData` is the writable form and wins over `data`, as in the API server.
    let text = secret
        .object
        .string_data
        .as_ref()
        .and_then(|data| data.get("password"));
    let encoded = secret.object.data.as_ref().and_then(|data| data.get("password"));
    let bytes: &[u8] = match (text, encoded) {
        (Some(text), _) => text.as_bytes(),
        (None, Some(encoded)) => &encoded.0,
        (None, None) => &[],
    };
    match Secret::new(bytes) {
        Ok(key) => Ok((key, bytes.ends_with(b"\n"))),
        Err(_) if bytes.is_empty() => Err(NoPassword::NoKey { namespace, name }),
        Err(_) => Err(NoPassword::TooLong {
            namespace,
            name,
            length: bytes.len(),
        }),
    }
}
