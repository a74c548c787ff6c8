//! What one object must keep to beyond its schema.

use crate::object::Object;
use crate::schema::Finding;
use crate::yaml::Node;

/// Checks an object that its schema accepts. `node` gives the lines.
pub(crate) fn check(_object: &Object, _node: &Node, _out: &mut Vec<Finding>) {}
