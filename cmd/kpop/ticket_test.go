package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/krb5conf"
)

// TestCacheFile: the cache is the one that kinit has written, or it is said how to have
// one that can be read.
func TestCacheFile(t *testing.T) {
	standard := fmt.Sprintf("/tmp/krb5cc_%d", os.Getuid())
	for _, c := range []struct{ environment, profile, want string }{
		{"", "", standard},
		{"FILE:/a/b", "KCM:", "/a/b"},
		{"/a/b:c", "", "/a/b:c"},
		{"cache", "", "cache"},
		{"KCM:", "", ""},
		{"DIR:/a", "FILE:/a", ""},
		{"", "KEYRING:persistent:%{uid}", ""},
		{"", "FILE:%{TEMP}/krb5cc_%{uid}", standard},
	} {
		t.Setenv("KRB5CCNAME", c.environment)
		file := filepath.Join(t.TempDir(), "krb5.conf")
		if err := os.WriteFile(file, []byte("[libdefaults]\ndefault_ccache_name = "+c.profile+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := krb5conf.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := cacheFile(p)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), "; export KRB5CCNAME=FILE:") {
			t.Errorf("%q, %q: %q, %v", c.environment, c.profile, got, err)
		}
	}
}
