package player

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// Main brings up the one realm of a package's tests, runs them, and ends it; its
// value is the process's. extra, when not nil, gives what is appended to kpopd's
// configuration, for a realm in dir.
func Main(m *testing.M, realm **integration.Realm, extra func(dir string) (string, error)) int {
	code, err := run(m, realm, extra)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func run(m *testing.M, realm **integration.Realm, extra func(dir string) (string, error)) (code int, err error) {
	dir, err := os.MkdirTemp("", "kpopd-realm")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	var o integration.Options
	if o.Kpopd, err = Program("kpopd"); err != nil {
		return 0, err
	}
	if extra != nil {
		if o.ExtraTOML, err = extra(dir); err != nil {
			return 0, err
		}
	}
	if *realm, err = integration.Up(context.Background(), dir, o); err != nil {
		return 0, fmt.Errorf("the realm does not come up; run make deps build: %w", err)
	}
	defer func() { err = errors.Join(err, (*realm).Down()) }()
	return m.Run(), nil
}

// Program is one that make build has made.
func Program(name string) (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "bin", name), nil
		}
	}
	return "", fmt.Errorf("player: not below a go.mod, where bin/%s would be: %w", name, err)
}
