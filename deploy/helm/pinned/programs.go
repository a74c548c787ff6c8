//go:build programs

// Package helm pins the program that renders the chart; go.sum says what is in it, to the last octet.
package helm

import _ "helm.sh/helm/v4/cmd/helm"
