package main

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAbsent: what cannot be made later on is told of.
func TestAbsent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	got := absent([]string{in("one"), dir, "/nowhere/spool", in("two/three"), dir + "x"})
	if diff := cmp.Diff([]string{"/nowhere/spool", dir + "x"}, got); diff != "" {
		t.Error(diff)
	}
}
