//go:build programs

// Package kubernetes pins the programs a control plane is made of; go.sum says what is in them, to the last octet.
package kubernetes

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
)
