//go:build programs

// Package coredns pins the name server of a cluster; go.sum says what is in it, to the last octet.
package coredns

import (
	_ "github.com/coredns/coredns"
)
