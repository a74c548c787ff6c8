//! Objects by reference, which each of them has in itself: it is not there twice.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use crds::{Kind, ObjectRef, Parsed};

/// In the order of their references.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(BTreeSet<ByReference>);

/// Two are the same if they are called the same, whatever they say.
#[derive(Debug, Clone)]
struct ByReference(Arc<Parsed>);

impl Held {
    pub(crate) fn get(&self, reference: &ObjectRef) -> Option<&Arc<Parsed>> {
        self.0.get(reference).map(|entry| &entry.0)
    }

    /// Gives the version that it replaces.
    pub(crate) fn insert(&mut self, object: Arc<Parsed>) -> Option<Arc<Parsed>> {
        self.0.replace(ByReference(object)).map(|entry| entry.0)
    }

    /// Gives the last version.
    pub(crate) fn remove(&mut self, reference: &ObjectRef) -> Option<Arc<Parsed>> {
        self.0.take(reference).map(|entry| entry.0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Parsed>> {
        self.0.iter().map(|entry| &entry.0)
    }

    pub(crate) fn references(&self) -> impl Iterator<Item = &ObjectRef> {
        self.iter().map(|object| &object.reference)
    }

    /// Objects of one kind, by namespace and name.
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Arc<Parsed>> {
        let from = self.0.range::<ObjectRef, _>(ObjectRef::cluster(kind, "")..);
        from.map(|entry| &entry.0)
            .take_while(move |object| object.reference.kind == kind)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What they say counts too.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl PartialEq for ByReference {
    fn eq(&self, other: &Self) -> bool {
        self.0.reference == other.0.reference
    }
}

impl Eq for ByReference {}

impl PartialOrd for ByReference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByReference {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.reference.cmp(&other.0.reference)
    }
}

impl Borrow<ObjectRef> for ByReference {
    fn borrow(&self) -> &ObjectRef {
        &self.0.reference
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn node(name: &str, label: &str) -> Arc<Parsed> {
        let text =
            format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{x: {label}}}}}\n");
        let mut read = crds::read(Path::new("x.yaml"), &text);
        Arc::new(read.objects.pop().unwrap())
    }

    #[test]
    fn an_object_is_in_it_once_in_its_last_version() {
        let reference = ObjectRef::cluster(Kind::Node, "b");
        let mut held = Held::default();
        assert!(held.is_empty());
        assert_eq!(held.insert(node("b", "one")), None);
        assert_eq!(held.insert(node("a", "one")), None);
        assert_eq!(held.insert(node("b", "two")), Some(node("b", "one")));
        assert_eq!(held.len(), 2);
        assert_eq!(held.get(&reference), Some(&node("b", "two")));
        let names: Vec<&str> = held
            .references()
            .map(|reference| reference.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            (held.of(Kind::Node).count(), held.of(Kind::Secret).count()),
            (2, 0)
        );
        assert_eq!(held.remove(&reference), Some(node("b", "two")));
        assert_eq!(held.get(&reference), None);
    }

    #[test]
    fn what_objects_say_makes_a_difference() {
        let with = |label: &str| {
            let mut held = Held::default();
            held.insert(node("a", label));
            held
        };
        assert_eq!(with("one"), with("one"));
        assert_ne!(with("one"), with("two"));
        assert_ne!(with("one"), Held::default());
    }
}
