package kpopd_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThreatTable holds docs/security.md to the tree: each file that is said to
// defend is there, and so is each test, and the log can say what it is said to.
func TestThreatTable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, sources := testNames(t), sources(t)
	quoted := regexp.MustCompile("`[^`]+`")
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 8 || !strings.Contains(cells[4], ".go") {
			continue
		}
		rows++
		for _, file := range quoted.FindAllString(cells[4], -1) {
			if _, err := os.Stat(strings.Trim(file, "`")); err != nil {
				t.Errorf("%s: %v", strings.TrimSpace(cells[1]), err)
			}
		}
		// What the log says begins a string of the program's.
		if says := strings.TrimSpace(cells[5]); says != "a KP code" && !strings.Contains(sources, `"`+says) {
			t.Errorf("%s: no log line says %q", strings.TrimSpace(cells[1]), says)
		}
		named := quoted.FindAllString(cells[6], -1)
		for _, name := range named {
			if !tests[strings.Trim(name, "`")] {
				t.Errorf("%s: there is no %s", strings.TrimSpace(cells[1]), name)
			}
		}
		if len(named) == 0 {
			t.Errorf("%s: no test", strings.TrimSpace(cells[1]))
		}
	}
	if rows < 10 {
		t.Errorf("%d threats, fewer than the ten that decide", rows)
	}
}

// TestReliabilityNames: each test that docs/reliability.md names is there.
func TestReliabilityNames(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(page, -1)
	for _, name := range named {
		if !tests[string(name[1])] {
			t.Errorf("there is no %s", name[1])
		}
	}
	if len(named) == 0 {
		t.Error("no test is named any more")
	}
}

// sources are all Go files but tests, one after the other.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// testNames are the functions that go test runs, of all packages and tags.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	names := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
