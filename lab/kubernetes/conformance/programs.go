//go:build programs

// Package conformance pins Kubernetes' own end-to-end tests and the peer they are run beside; go.sum says what is in it, to the
// last octet.
package conformance

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "k8s.io/kubernetes/cmd/kube-proxy"
	_ "k8s.io/kubernetes/test/e2e"
)
