//! Whether there is any Service for each selector of other objects: all that checks between objects want to know of Services.

use crds::k8s_openapi::api::core::v1::Service;
use crds::selector::LabelSelector;

use super::frontends::label;
use crate::world::{Objects, Stored};

/// The selectors, and how many Services each one matches.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    asked: Vec<(LabelSelector, Whom)>,
    found: Vec<usize>,
    answers: Answers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Everybody,
    LoadBalancers,
}

/// Since they were last asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Answers {
    #[default]
    Same,
    /// A selector that matched nobody matches somebody, or the other way round.
    Others,
}

impl Questions {
    /// No Service is known yet.
    pub(crate) fn of(objects: &Objects) -> Self {
        let of_items = objects
            .advertisements()
            .flat_map(|object| &object.object.spec.advertisements);
        let of_items = of_items.filter_map(|item| Some((item.selector.clone()?, Whom::Everybody)));
        let of_pools = objects
            .lb_pools()
            .filter_map(|pool| Some((pool.object.spec.service_selector.clone()?, Whom::LoadBalancers)));
        let asked: Vec<_> = of_items.chain(of_pools).collect();
        Self {
            found: vec![0; asked.len()],
            asked,
            answers: Answers::Same,
        }
    }

    /// Numbers of the selectors that match a Service, ascending.
    pub(crate) fn matching(&self, service: Stored<'_, Service>) -> Vec<usize> {
        let kind = service
            .object
            .spec
            .as_ref()
            .and_then(|spec| spec.type_.as_deref());
        let asked = self.asked.iter().enumerate();
        let matching = asked.filter(|(_, (selector, whom))| {
            let is_meant = match whom {
                Whom::Everybody => true,
                Whom::LoadBalancers => kind == Some("LoadBalancer"),
            };
            is_meant && selector.matches_with(|key| label(service, key))
        });
        matching.map(|(number, _)| number).collect()
    }

    /// A Service matches these instead of those.
    pub(crate) fn moved(&mut self, before: &[usize], after: &[usize]) {
        for number in after {
            if let Some(found) = self.found.get_mut(*number) {
                self.answers = if *found == 0 {
                    Answers::Others
                } else {
                    self.answers
                };
                *found += 1;
            }
        }
        for number in before {
            if let Some(found) = self.found.get_mut(*number) {
                *found -= 1;
                self.answers = if *found == 0 {
                    Answers::Others
                } else {
                    self.answers
                };
            }
        }
    }

    /// Whether a check may come to something else than when this was last asked.
    pub(crate) fn answers(&mut self) -> Answers {
        std::mem::take(&mut self.answers)
    }
}
