package config

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"
)

// faults is a list of what is wrong, in the file's order.
type faults []string

func (f *faults) add(key, what string) { *f = append(*f, key+": "+what) }

func (f *faults) need(ok bool, key, what string) {
	if !ok {
		f.add(key, what)
	}
}

func (f *faults) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		f.add(key, fmt.Sprintf("%q is not one of %q", value, allowed))
	}
}

func (f *faults) between(key string, d, low, high time.Duration) {
	if d < low || d > high {
		f.add(key, fmt.Sprintf("%s is not between %s and %s", d, low, high))
	}
}

func (f *faults) absolute(key, path string, required bool) {
	if path == "" && !required {
		return
	}
	f.need(filepath.IsAbs(path), key, fmt.Sprintf("%q must be an absolute path", path))
}

// isPort takes a number up to 65535, or a name of /etc/services.
func isPort(text string) bool {
	_, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", text)
	return text != "" && err == nil
}

func (f *faults) hostPort(key, address string) {
	host, port, err := net.SplitHostPort(address)
	f.need(err == nil && host != "" && isPort(port), key, fmt.Sprintf("%q is not host:port", address))
}
