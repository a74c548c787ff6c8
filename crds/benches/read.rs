//! 10 000 Services and 10 000 EndpointSlices, as a folder of YAML holds them.

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;

use crds::{CheckOptions, check, read};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

const DOCUMENTS: usize = 10_000;

fn services() -> String {
    let mut text = String::new();
    for number in 0..DOCUMENTS {
        write!(
            text,
            "\
---
apiVersion: v1
kind: Service
metadata:
  name: service-{number}
  namespace: ns-{}
  labels:
    app: web-{number}
    bgp: blue
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  externalTrafficPolicy: Local
  selector:
    app: web-{number}
  ports:
  - name: http
    port: 80
    targetPort: 8080
  - name: https
    port: 443
    protocol: TCP
",
            number % 50
        )
        .expect("a String takes it");
    }
    text
}

fn endpoint_slices() -> String {
    let mut text = String::new();
    for number in 0..DOCUMENTS {
        let (high, low) = (number / 250 % 250, number % 250);
        write!(
            text,
            "\
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: service-{number}-x
  namespace: ns-{}
  labels:
    kubernetes.io/service-name: service-{number}
addressType: IPv4
ports:
- name: http
  port: 8080
endpoints:
- addresses: [10.{high}.{low}.1]
  nodeName: node-1
  conditions: {{ready: true}}
- addresses: [10.{high}.{low}.2]
  nodeName: node-2
  conditions: {{ready: true}}
",
            number % 50
        )
        .expect("a String takes it");
    }
    text
}

fn bench_read(bencher: Bencher<'_, '_>, text: &str) {
    bencher
        .counter(BytesCount::of_str(text))
        .counter(ItemsCount::new(DOCUMENTS))
        .bench_local(|| read(Path::new("all.yaml"), black_box(text)));
}

#[divan::bench(sample_count = 10)]
fn read_services(bencher: Bencher<'_, '_>) {
    bench_read(bencher, &services());
}

#[divan::bench(sample_count = 10)]
fn read_endpoint_slices(bencher: Bencher<'_, '_>) {
    bench_read(bencher, &endpoint_slices());
}

#[divan::bench(sample_count = 10)]
fn check_all(bencher: Bencher<'_, '_>) {
    let text = services() + &endpoint_slices();
    let read = read(Path::new("all.yaml"), &text);
    assert_eq!(read.objects.len(), 2 * DOCUMENTS, "{:?}", read.problems.first());
    bencher.bench_local(|| check(black_box(&read.objects), CheckOptions::default()));
}
