use std::fs;

use super::*;

fn from_text(text: &str) -> Result<(Config, Vec<Problem>), ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.yaml");
    fs::write(&path, text).unwrap();
    load(Some(&path), Vec::new(), &Given::new())
}

fn error(text: &str) -> String {
    let text = from_text(text).unwrap_err().to_string();
    // The temporary folder differs each time.
    text.split_once("agent.yaml").unwrap().1.to_owned()
}

#[test]
fn without_anything_bgp_is_on() {
    let (config, warnings) = load(None, Vec::new(), &Given::new()).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.bgp, BgpControlPlane::Enabled);
    assert!(warnings.is_empty());
    assert_eq!(from_text("").unwrap().0, Config::default());
    assert_eq!(from_text("# nothing\n").unwrap().0, Config::default());
}

#[test]
fn keys_mean_what_they_mean_to_cilium() {
    let (config, warnings) = from_text(
        "enable-bgp-control-plane: \"false\"\nipam: multi-pool\nenable-ipv6: false\nbgp-secrets-namespace: secrets\n\
         bgp-router-id-allocation-mode: ip-pool\nbgp-router-id-allocation-ip-pool: 10.42.0.0/24\n\
         enable-bgp-legacy-origin-attribute: true\nenable-no-service-endpoints-routable: 'false'\n\
         default-lb-service-ipam: none\nenable-l2-announcements: \"false\"\n",
    )
    .unwrap();
    assert_eq!(config.bgp, BgpControlPlane::Disabled);
    assert_eq!(
        config.options,
        Options {
            ipam: IpamMode::MultiPool,
            router_id: RouterIdMode::IpPool("10.42.0.0/24".parse().unwrap()),
            secrets_namespace: Some("secrets".into()),
            legacy_origin: LegacyOrigin::Yes,
            without_endpoints: WithoutEndpoints::Withdrawn,
            families: Families::Ipv4Only,
            lb_ipam: LbIpam::OnlyNamedClasses,
        }
    );
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_config_map_object_and_its_mounted_folder_read_alike() {
    let (object, _) = from_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: cilium-config\n  labels: {a: b}\n  finalizers: [x]\nimmutable: true\nbinaryData: {}\ndata:\n  ipam: kubernetes\n  cluster-name: one\n",
    )
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("..data")).unwrap();
    fs::write(dir.path().join("ipam"), "kubernetes\n").unwrap();
    fs::write(dir.path().join("cluster-name"), "one").unwrap();
    let (folder, warnings) = load(Some(dir.path()), Vec::new(), &Given::new()).unwrap();
    assert_eq!(object, folder);
    assert_eq!(folder.options.ipam, IpamMode::Kubernetes);
    // A cluster's ConfigMap is full of keys that are none of our business.
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_environment_wins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.yaml");
    fs::write(&path, "ipam: kubernetes\n").unwrap();
    let variables = [
        ("CILIUM_IPAM", "multi-pool"),
        ("CILIUM_SOCK", "/x"),
        ("HOME", "/root"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (config, warnings) = load(Some(&path), variables, &Given::new()).unwrap();
    assert_eq!(config.options.ipam, IpamMode::MultiPool);
    assert!(warnings.is_empty());
}

#[test]
fn a_bad_value_says_where_and_what_would_do() {
    assert_eq!(
        error("ipam: kubernetes\nenable-ipv4: perhaps\n"),
        ":2: enable-ipv4: \"perhaps\" is not possible; it must be true or false"
    );
    assert_eq!(
        error("default-lb-service-ipam: metallb\n"),
        ":1: default-lb-service-ipam: \"metallb\" is not possible; it must be lbipam, nodeipam or none"
    );
    assert_eq!(
        error("bgp-router-id-allocation-mode: random\n"),
        ":1: bgp-router-id-allocation-mode: \"random\" is not possible; it must be default or ip-pool"
    );
    assert_eq!(
        error("bgp-router-id-allocation-mode: ip-pool\nbgp-router-id-allocation-ip-pool: 10.0.0/24\n"),
        ":2: bgp-router-id-allocation-ip-pool: \"10.0.0/24\" is not possible; it must be an IPv4 prefix such as \
         10.42.0.0/24 when bgp-router-id-allocation-mode is ip-pool"
    );
    let variable = [("CILIUM_ENABLE_IPV4".to_owned(), "x".to_owned())];
    assert_eq!(
        load(None, variable, &Given::new()).unwrap_err().to_string(),
        "environment variable CILIUM_ENABLE_IPV4: enable-ipv4: \"x\" is not possible; it must be true or false"
    );
}

#[test]
fn what_is_no_map_is_no_configuration() {
    assert!(error("- a\n- b\n").starts_with(":1: this is not a configuration: it is a list"));
    assert!(error("just words\n").starts_with(":1: this is not a configuration: it is a single value"));
    assert!(error("a: [1\n").contains("this is not a configuration"));
    // Not taken for the key of what follows.
    assert!(
        error("devices: [eth0]\nipam: kubernetes\n")
            .starts_with(":1: this is not a configuration: devices is a list or a map, not one value")
    );
    assert!(error("bgp: {enabled: true}\n").contains("bgp is a list or a map"));
    assert!(error("ipam: a\nipam: b\n").starts_with(":2: this is not a configuration: ipam stands twice"));
    let missing = load(Some(Path::new("/nowhere.yaml")), Vec::new(), &Given::new()).unwrap_err();
    assert_eq!(missing.name(), "config-not-readable");
    assert!(missing.to_string().contains("/nowhere.yaml"));
}

#[test]
fn unknown_keys_and_wishes_without_effect_are_warned_of() {
    let (_, warnings) =
        from_text("enable-bgp-controlplane: true\nflavour: sweet\nenable-l2-announcements: true\n").unwrap();
    let texts: Vec<(u32, &str, &str)> = warnings
        .iter()
        .map(|w| (w.line, w.reason, w.message.as_str()))
        .collect();
    assert_eq!(
        texts,
        [
            (
                1,
                "config-unknown-key",
                "enable-bgp-controlplane is not a key: did you mean enable-bgp-control-plane? It is ignored"
            ),
            (2, "config-unknown-key", "flavour is not a key: it is ignored"),
            (
                3,
                "config-without-effect",
                "enable-l2-announcements: true has no effect: this version does not do that"
            ),
        ]
    );
}

fn datapath(text: &str) -> datapath::Datapath {
    from_text(text).unwrap().0.datapath
}

#[test]
fn the_load_balancer_is_off_and_has_the_defaults_of_cilium() {
    let found = datapath("");
    assert_eq!(found, datapath::Datapath::default());
    assert_eq!(found.switch, datapath::Switch::Off);
    assert_eq!(found.settings.node_ports, 30_000..=32_767);
    assert_eq!(found.settings.maglev_size, 16_381);
}

#[test]
fn keys_of_the_load_balancer_mean_what_they_mean_to_cilium() {
    use ebpf_abi::config::setting;
    use ebpf_abi::service::{Dispatch, Selection};
    use ebpf_datapath::{ClusterIps, Forwarding, Honour, Pods, SourceRanges};

    let found = datapath(
        "kube-proxy-replacement: \"true\"\ndevices: \"eth+ !eth1\"\nbpf-lb-mode: hybrid\nbpf-lb-dsr-dispatch: geneve\n\
         bpf-lb-acceleration: best-effort\nbpf-lb-algorithm: maglev\nbpf-lb-maglev-table-size: \"251\"\n\
         bpf-lb-maglev-hash-seed: JLfvgnHc2kaSUFaI\nbpf-lb-sock: false\nbpf-lb-external-clusterip: true\n\
         bpf-lb-algorithm-annotation: false\nnode-port-range: 30000,30100\ncgroup-root: /c\nbpf-root: /b\n\
         enable-service-topology: true\nservice-no-backend-response: drop\nbpf-lb-source-range-all-types: true\n\
         k8s-service-proxy-name: stentor\nfixed-zone-mapping: \"a=1, b=2\"\nbpf-ct-timeout-service-tcp: 1h\n\
         bpf-lb-vip-echo: false\nbpf-lb-answer-rate: \"7\"\nbpf-lb-flow-rate: \"8\"\nbpf-lb-container-devices: lxc+\n\
         bpf-lb-map-max: \"4096\"\nbpf-lb-service-map-max: \"2048\"\nenable-ipv6: false\n",
    );
    assert_eq!(found.switch, datapath::Switch::On);
    assert_eq!(found.sockets, datapath::Switch::Off);
    assert_eq!(found.acceleration, datapath::Acceleration::BestEffort);
    assert_eq!((found.bpf_root, found.cgroup_root), ("/b".into(), "/c".into()));
    assert_eq!(
        (found.sizes.balancing, found.sizes.services),
        (Some(4096), Some(2048))
    );
    let settings = found.settings;
    assert_eq!(settings.families.len(), 1);
    assert_eq!(settings.selection, Selection::Maglev);
    assert_eq!(settings.selection_annotation, Honour::No);
    assert_eq!(settings.forwarding, Forwarding::Hybrid);
    assert_eq!(settings.dsr, Dispatch::DsrGeneve);
    assert_eq!(settings.cluster_ips, ClusterIps::Outside);
    assert_eq!(settings.topology, Honour::Yes);
    assert_eq!(settings.source_ranges, SourceRanges::All);
    assert_eq!(settings.node_ports, 30_000..=30_100);
    assert_eq!(settings.proxy_name, "stentor");
    assert_eq!(settings.zones, BTreeMap::from([("a".into(), 1), ("b".into(), 2)]));
    assert_eq!(settings.maglev_size, 251);
    assert_eq!(settings.seeds, ebpf_abi::maglev::Seeds::default());
    assert_eq!(settings.config.lifetimes.open, 3600);
    let silent = setting::SILENT_NO_BACKEND | setting::SILENT_ECHO;
    assert_eq!(settings.config.settings & silent, silent);
    assert_eq!((settings.config.answer_rate, settings.config.flow_rate), (7, 8));
    assert_eq!(settings.pods, Pods::ByPackets);
    assert!(found.pods.name_any());
}

#[test]
fn bad_values_of_the_load_balancer_are_named_with_those_that_are_allowed() {
    for (text, says) in [
        ("kube-proxy-replacement: strict", "true or false"),
        ("bpf-lb-mode: fast", "snat, dsr or hybrid"),
        ("bpf-lb-dsr-dispatch: gre", "opt, ipip or geneve"),
        ("bpf-lb-acceleration: yes", "disabled, native or best-effort"),
        ("bpf-lb-container-devices: \"+\"", "eth+ for all that begin so"),
        ("bpf-lb-algorithm: leastconn", "random or maglev"),
        ("bpf-lb-maglev-table-size: \"1000\"", "one of 251, 509"),
        ("bpf-lb-maglev-hash-seed: abc", "12 octets in base64"),
        ("node-port-range: \"40000,30000\"", "the first and the last port"),
        ("service-no-backend-response: shrug", "reject or drop"),
        ("fixed-zone-mapping: a=300", "from 1 to 255"),
        ("bpf-root: here", "a path that begins with /"),
        ("bpf-ct-timeout-service-any: soon", "a duration"),
        ("bpf-lb-map-max: \"7\"", "a number from 1024"),
        ("bpf-lb-answer-rate: all", "each processor may make in a second"),
        ("bpf-lb-flow-rate: \"-1\"", "0: all"),
        ("bpf-map-dynamic-size-ratio: \"2\"", "a share from 0 to 1"),
        ("nodeport-addresses: here", "prefixes such as"),
        ("devices: \"+\"", "names of devices"),
    ] {
        let said = error(&format!("{text}\n"));
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[test]
fn an_option_wins_over_the_environment() {
    let variables = [("CILIUM_BPF_LB_MODE".to_owned(), "dsr".to_owned())];
    let given = Given::from([("bpf-lb-mode", "hybrid".to_owned())]);
    let (config, _) = load(None, variables, &given).unwrap();
    assert_eq!(
        config.datapath.settings.forwarding,
        ebpf_datapath::Forwarding::Hybrid
    );
    let given = Given::from([("bpf-lb-mode", "x".to_owned())]);
    let error = load(None, Vec::new(), &given).unwrap_err().to_string();
    assert!(
        error.starts_with("option --bpf-lb-mode: bpf-lb-mode: \"x\" is not possible"),
        "{error}"
    );
}
