use std::fs;

use super::*;

fn from_text(text: &str) -> Result<(Config, Vec<Problem>), ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.yaml");
    fs::write(&path, text).unwrap();
    load(Some(&path), Vec::new())
}

fn error(text: &str) -> String {
    let text = from_text(text).unwrap_err().to_string();
    // The temporary folder differs each time.
    text.split_once("agent.yaml").unwrap().1.to_owned()
}

#[test]
fn without_anything_bgp_is_on() {
    let (config, warnings) = load(None, Vec::new()).unwrap();
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
    let (folder, warnings) = load(Some(dir.path()), Vec::new()).unwrap();
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
    let (config, warnings) = load(Some(&path), variables).unwrap();
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
        load(None, variable).unwrap_err().to_string(),
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
    let missing = load(Some(Path::new("/nowhere.yaml")), Vec::new()).unwrap_err();
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
