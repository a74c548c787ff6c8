//! The text format of Prometheus.

use std::fmt::{Display, Write as _};
use std::time::Duration;

/// Upper bounds in seconds: the default buckets of Prometheus' own client.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Durations, sorted into [`BUCKETS`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    pub(crate) fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        for (count, bound) in self.counts.iter_mut().zip(BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// A page under way.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Starts a family; samples follow.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let name = self.name;
        self.line(name, "", labels, None, value);
    }

    pub(crate) fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let name = self.name;
        for (count, bound) in histogram.counts.iter().zip(BUCKETS) {
            self.line(name, "_bucket", labels, Some(&bound.to_string()), count);
        }
        self.line(name, "_bucket", labels, Some("+Inf"), histogram.count);
        self.line(name, "_sum", labels, None, histogram.sum);
        self.line(name, "_count", labels, None, histogram.count);
    }

    pub(crate) fn text(self) -> String {
        self.text
    }

    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[(&str, &str)],
        le: Option<&str>,
        value: impl Display,
    ) {
        let _ = write!(self.text, "{name}{suffix}");
        let mut open = '{';
        for (label, text) in labels.iter().copied().chain(le.map(|bound| ("le", bound))) {
            let _ = write!(self.text, "{open}{label}=\"{}\"", escape(text));
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Name and kind of each family of a page.
#[cfg(test)]
pub(crate) fn families(page: &str) -> std::collections::BTreeMap<String, String> {
    let announced = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    announced
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_cumulative() {
        let mut page = Page::default();
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_millis(7));
        histogram.observe(Duration::from_secs(20));
        page.family("x_seconds", Kind::Histogram, "x");
        page.histogram(&[("a", "b\"c")], &histogram);
        let text = page.text();
        assert!(text.contains("x_seconds_bucket{a=\"b\\\"c\",le=\"0.005\"} 0\n"));
        assert!(text.contains("x_seconds_bucket{a=\"b\\\"c\",le=\"0.01\"} 1\n"));
        assert!(text.contains("x_seconds_bucket{a=\"b\\\"c\",le=\"10\"} 1\n"));
        assert!(text.contains("x_seconds_bucket{a=\"b\\\"c\",le=\"+Inf\"} 2\n"));
        assert!(text.contains("x_seconds_count{a=\"b\\\"c\"} 2\n"));
    }
}
