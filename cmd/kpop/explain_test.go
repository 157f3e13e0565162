package main

import (
	"os"
	"strings"
	"testing"
)

// The page in docs is what the program prints; `kpop explain --all` makes it
// anew.
func TestErrorPageIsTrue(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/kerberos-errors.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := explainAll(&b); err != nil {
		t.Fatal(err)
	}
	if b.String() != string(page) {
		t.Error("docs/kerberos-errors.md is not what kpop explain --all prints; make it anew")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := explain(&b, "kp-104"); err != nil || !strings.Contains(b.String(), "What to do:") {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := explain(&b, "KP-999"); err == nil {
		t.Error("a code that is not there was explained")
	}
}
