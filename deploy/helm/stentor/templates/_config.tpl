{{/* Keys of the configuration that values have names for. */}}
{{- define "stentor.config" -}}
{{- with .Values -}}
enable-ipv4: {{ .ipv4.enabled | quote }}
enable-ipv6: {{ .ipv6.enabled | quote }}
ipam: {{ .ipam.mode | quote }}
{{- if eq .ipam.mode "cluster-pool" }}
{{- with .ipam.operator }}
cluster-pool-ipv4-cidr: {{ join " " .clusterPoolIPv4PodCIDRList | quote }}
cluster-pool-ipv4-mask-size: {{ int64 .clusterPoolIPv4MaskSize | quote }}
cluster-pool-ipv6-cidr: {{ join " " .clusterPoolIPv6PodCIDRList | quote }}
cluster-pool-ipv6-mask-size: {{ int64 .clusterPoolIPv6MaskSize | quote }}
{{- end }}
{{- end }}

enable-bgp-control-plane: {{ .bgpControlPlane.enabled | quote }}
{{- if .bgpControlPlane.enabled }}
bgp-secrets-namespace: {{ .bgpControlPlane.secretsNamespace.name | quote }}
enable-bgp-control-plane-status-report: {{ .bgpControlPlane.statusReport.enabled | quote }}
bgp-router-id-allocation-mode: {{ .bgpControlPlane.routerIDAllocation.mode | quote }}
{{- with .bgpControlPlane.routerIDAllocation.ipPool }}
bgp-router-id-allocation-ip-pool: {{ . | quote }}
{{- end }}
enable-bgp-legacy-origin-attribute: {{ .bgpControlPlane.legacyOriginAttribute.enabled | quote }}
{{- else }}
bgp-secrets-namespace: ""
{{- end }}

enable-lb-ipam: {{ .enableLBIPAM | quote }}
default-lb-service-ipam: {{ .defaultLBServiceIPAM | quote }}
enable-node-ipam: {{ .nodeIPAM.enabled | quote }}
enable-no-service-endpoints-routable: {{ .enableNoServiceEndpointsRoutable | quote }}

kube-proxy-replacement: {{ .kubeProxyReplacement | quote }}
{{- with .k8s.serviceProxyName }}
k8s-service-proxy-name: {{ . | quote }}
{{- end }}
{{- if include "stentor.balances" $ }}
{{- with .kubeProxyReplacementHealthzBindAddr }}
kube-proxy-replacement-healthz-bind-address: {{ . | quote }}
{{- end }}
{{- with .kubeProxyReplacementProxyModeBindAddr }}
kube-proxy-replacement-proxy-mode-bind-address: {{ . | quote }}
{{- end }}
{{- with .devices }}
devices: {{ kindIs "slice" . | ternary (join " " (kindIs "slice" . | ternary . list)) . | quote }}
{{- end }}
{{- with .nodePort.range }}
node-port-range: {{ . | quote }}
{{- end }}
{{- with .nodePort.addresses }}
nodeport-addresses: {{ join "," . | quote }}
{{- end }}
bpf-lb-mode: {{ .loadBalancer.mode | quote }}
bpf-lb-dsr-dispatch: {{ .loadBalancer.dsrDispatch | quote }}
bpf-lb-acceleration: {{ .loadBalancer.acceleration | quote }}
bpf-lb-algorithm: {{ .loadBalancer.algorithm | quote }}
enable-service-topology: {{ .loadBalancer.serviceTopology | quote }}
{{- with .maglev.tableSize }}
bpf-lb-maglev-table-size: {{ int64 . | quote }}
{{- end }}
{{- with .maglev.hashSeed }}
bpf-lb-maglev-hash-seed: {{ . | quote }}
{{- end }}
bpf-lb-sock: {{ .socketLB.enabled | quote }}
bpf-lb-external-clusterip: {{ .bpf.lbExternalClusterIP | quote }}
bpf-lb-algorithm-annotation: {{ .bpf.lbAlgorithmAnnotation | quote }}
bpf-lb-mode-annotation: {{ .bpf.lbModeAnnotation | quote }}
bpf-lb-source-range-all-types: {{ .bpf.lbSourceRangeAllTypes | quote }}
{{- with .bpf.lbMapMax }}
bpf-lb-map-max: {{ int64 . | quote }}
{{- end }}
{{- with .bpf.ctTcpMax }}
bpf-ct-global-tcp-max: {{ int64 . | quote }}
{{- end }}
{{- with .bpf.ctAnyMax }}
bpf-ct-global-any-max: {{ int64 . | quote }}
{{- end }}
{{- with .bpf.mapDynamicSizeRatio }}
bpf-map-dynamic-size-ratio: {{ . | quote }}
{{- end }}
bpf-root: /sys/fs/bpf
cgroup-root: /host/cgroup
{{- end }}
{{- with .k8sClientRateLimit.operator.qps }}

operator-k8s-client-qps: {{ int64 . | quote }}
{{- end }}
{{- with .k8sClientRateLimit.operator.burst }}
operator-k8s-client-burst: {{ int64 . | quote }}
{{- end }}
{{- end }}
{{- end }}
