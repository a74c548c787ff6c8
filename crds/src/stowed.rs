//! Kinds of which a cluster has very many, in less memory.
//!
//! The type of a Service has room for everything a Service may say, and the map of two labels is a node for eleven: ten thousand
//! of them take some 30 MB, and as text a quarter of that, most of which says the same in all of them. Whoever holds that many
//! and looks at each seldom packs them. What was packed reads back as it was, or it is not packed.

mod phrases;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An object, open or packed; equal to another one if what they hold is. Copies share it.
pub struct Stowed<T>(Form<T>);

enum Form<T> {
    Open(Arc<T>),
    /// JSON, with phrases for what most of them say.
    Packed(Arc<str>),
}

/// A look at what is stowed.
#[derive(Debug)]
pub enum Opened<'a, T> {
    Lent(&'a T),
    Made(Box<T>),
}

impl<T> Stowed<T> {
    pub fn new(object: T) -> Self {
        Self(Form::Open(Arc::new(object)))
    }
}

impl<T: Clone + Default + DeserializeOwned> Stowed<T> {
    /// Free where it is open, and made anew each time where it is packed.
    pub fn open(&self) -> Opened<'_, T> {
        match &self.0 {
            Form::Open(object) => Opened::Lent(object),
            // It was read once before it was packed for good, so it can be read.
            Form::Packed(text) => {
                Opened::Made(serde_json::from_str(&phrases::expand(text)).unwrap_or_default())
            }
        }
    }

    pub fn into_inner(self) -> T {
        match self.0 {
            Form::Open(object) => Arc::unwrap_or_clone(object),
            Form::Packed(_) => self.open().into_inner(),
        }
    }
}

impl<T: Clone> Opened<'_, T> {
    pub fn into_inner(self) -> T {
        match self {
            Self::Lent(object) => object.clone(),
            Self::Made(object) => *object,
        }
    }
}

impl<T> Deref for Opened<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Lent(object) => object,
            Self::Made(object) => object,
        }
    }
}

impl<T: Serialize + DeserializeOwned + PartialEq> Stowed<T> {
    /// The same in less memory, slower to look at. One that its text would not give back stays open.
    #[must_use]
    pub fn packed(self) -> Self {
        let Form::Open(object) = &self.0 else { return self };
        let Ok(text) = serde_json::to_string(&**object) else {
            return self;
        };
        let short = phrases::shorten(&text);
        match serde_json::from_str::<T>(&phrases::expand(&short)) {
            Ok(back) if back == **object => Self(Form::Packed(short.into())),
            Ok(_) | Err(_) => self,
        }
    }
}

impl<T> Clone for Stowed<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Form::Open(object) => Form::Open(Arc::clone(object)),
            Form::Packed(text) => Form::Packed(Arc::clone(text)),
        })
    }
}

impl<T: Clone + Default + DeserializeOwned + PartialEq> PartialEq for Stowed<T> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // What is equal has equal text, in which nothing is lost.
            (Form::Packed(one), Form::Packed(other)) => one == other,
            _ => *self.open() == *other.open(),
        }
    }
}

impl<T: Clone + Default + DeserializeOwned + fmt::Debug> fmt::Debug for Stowed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (*self.open()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn service(created: Timestamp) -> Service {
        let mut service: Service = serde_json::from_value(json!({
            "metadata": { "name": "s", "namespace": "a", "labels": { "app": "x" }, "annotations": { "y": "\"z\"\n" } },
            "spec": {
                "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "selector": {},
                "ports": [{ "port": 80, "targetPort": "http" }, { "port": 81, "targetPort": 8081, "nodePort": 0 }],
                "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 7 } },
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1", "ipMode": "VIP" }, { "hostname": "x" }] } },
        }))
        .unwrap();
        service.metadata.creation_timestamp = Some(Time(created));
        service
    }

    fn slice() -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": { "name": "s-1", "labels": { "kubernetes.io/service-name": "s" } },
            "addressType": "IPv4",
            "endpoints": [
                { "addresses": ["10.0.0.1"], "conditions": { "ready": true }, "nodeName": "n", "zone": "z",
                  "hints": { "forZones": [{ "name": "z" }] } },
                { "addresses": [], "conditions": {} },
            ],
            "ports": [{ "name": "", "port": 80, "protocol": "TCP" }, {}],
        }))
        .unwrap()
    }

    #[test]
    fn what_is_packed_is_the_same_and_copies_share_it() {
        let service = service(Timestamp::from_second(7).unwrap());
        let open = Stowed::new(service.clone());
        let packed = open.clone().packed();
        assert!(matches!(packed.0, Form::Packed(_)));
        assert_eq!(*packed.open(), service);
        assert_eq!(packed, open);
        assert_eq!(format!("{packed:?}"), format!("{open:?}"));
        assert_eq!(packed.clone().packed().into_inner(), service);
        match (&packed.0, &packed.clone().0) {
            (Form::Packed(one), Form::Packed(other)) => assert!(Arc::ptr_eq(one, other)),
            _ => panic!("a copy is not packed"),
        }
        let packed = Stowed::new(slice()).packed();
        assert!(matches!(packed.0, Form::Packed(_)));
        assert_eq!(packed.into_inner(), slice());
    }

    #[test]
    fn what_differs_is_not_equal_in_any_form() {
        let one = Stowed::new(slice());
        let mut other = slice();
        other.address_type = "IPv6".to_owned();
        let other = Stowed::new(other);
        assert_ne!(one, other);
        assert_ne!(one.clone().packed(), other);
        assert_ne!(one.packed(), other.packed());
    }

    /// Fractions of a second have no place in the text.
    #[test]
    fn what_its_text_would_not_give_back_stays_open() {
        let service = service(Timestamp::new(7, 500_000_000).unwrap());
        let text: Value = serde_json::to_value(&service).unwrap();
        let back: Service = serde_json::from_value(text).unwrap();
        assert_ne!(back, service, "it would do to pack it");
        let packed = Stowed::new(service.clone()).packed();
        assert!(matches!(packed.0, Form::Open(_)));
        assert_eq!(packed.into_inner(), service);
    }
}
