{{- define "stentor.name" -}}
{{ .Values.nameOverride | default "stentor" }}
{{- end }}

{{- define "stentor.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "stentor.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "stentor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: stentor
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels that pods are selected by: (list . "agent") */}}
{{- define "stentor.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "stentor.name" $root }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "stentor.image" -}}
{{- with .Values.image -}}
{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "stentor.account.agent" -}}
{{ .Values.serviceAccounts.cilium.name | default (include "stentor.name" .) }}
{{- end }}

{{- define "stentor.account.operator" -}}
{{ .Values.serviceAccounts.operator.name | default (printf "%s-operator" (include "stentor.name" .)) }}
{{- end }}

{{/* Where the API server is, if the values say it. */}}
{{- define "stentor.server" -}}
{{- with .Values.k8sServiceHost }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
{{- end }}
{{- with .Values.k8sServicePort }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Any address of a node, in the family that is there. */}}
{{- define "stentor.any" -}}
{{ ternary "0.0.0.0" "[::]" .Values.ipv4.enabled }}
{{- end }}

{{- define "stentor.loopback" -}}
{{ ternary "127.0.0.1" "::1" .Values.ipv4.enabled }}
{{- end }}

{{/* A binding of rights to an account: (dict "root" . "name" "..." "account" "..." "namespace" "...") */}}
{{- define "stentor.binding" -}}
{{- $cluster := not .namespace -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "ClusterRoleBinding" "RoleBinding" $cluster }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "stentor.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ ternary "ClusterRole" "Role" $cluster }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .account }}
    namespace: {{ include "stentor.namespace" .root }}
{{- end }}

{{/* Whether Services are served in the kernel; Cilium's chart takes a text too. */}}
{{- define "stentor.balances" -}}
{{- if eq (toString .Values.kubeProxyReplacement) "true" }}yes{{ end }}
{{- end }}

{{/* Loopback and a port: (list . 9879) */}}
{{- define "stentor.health" -}}
{{- $root := index . 0 -}}
{{ ternary "127.0.0.1" "[::1]" $root.Values.ipv4.enabled }}:{{ index . 1 }}
{{- end }}
