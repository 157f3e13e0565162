package krb5conf

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A parser is one file on its way into a tree (MIT prof_parse.c). Blocks are
// closed in the file that opened them.
type parser struct {
	profile *Profile
	file    string
	line    int
	root    *node
	stack   []*node  // open section and blocks
	brace   bool     // "name =" stood alone: its brace must follow
	begun   bool     // a section was seen: what stands before is no one's
	open    []string // this file and those that include it
}

func (p *Profile) parse(file, text string, root *node, open []string) error {
	s := &parser{profile: p, file: file, root: root, open: open}
	for line := range strings.Lines(text) {
		s.line++
		if len(line) > maxLine {
			return s.fault("line is too long")
		}
		if strings.IndexByte(line, 0) >= 0 {
			return s.fault("holds a NUL octet; this is no text file")
		}
		if err := s.take(strings.TrimRight(line, " \t\r\n\v\f")); err != nil {
			return err
		}
	}
	if len(s.stack) > 1 {
		s.warn("block %q is not closed", s.stack[len(s.stack)-1].name)
	}
	return nil
}

func (s *parser) place() string { return fmt.Sprintf("%s:%d", s.file, s.line) }

func (s *parser) fault(format string, args ...any) error {
	return fmt.Errorf("krb5conf: %s: %w", s.place(), fmt.Errorf(format, args...))
}

func (s *parser) warn(format string, args ...any) {
	s.profile.Warnings = append(s.profile.Warnings, s.place()+": "+fmt.Sprintf(format, args...))
}

// take is one line. Directives stand at its very start. Comments are whole
// lines: "#" and ";" inside a value belong to it, auth_to_local rules use them.
func (s *parser) take(line string) error {
	if word, rest, ok := cutSpace(line); ok {
		switch {
		case word == "include":
			return s.include(rest)
		case word == "includedir":
			return s.includeDir(rest)
		case word == "module" && !s.begun:
			return s.fault("module is not supported; put what it gives into the file")
		}
	}
	if !s.begun && !strings.HasPrefix(line, "[") {
		s.before(line)
		return nil
	}
	s.begun = true
	line = strings.TrimLeft(line, " \t\v\f")
	switch {
	case s.brace:
		return s.openBrace(line)
	case line == "", line[0] == '#', line[0] == ';':
		return nil
	case line[0] == '[':
		return s.section(line)
	case line[0] == '}':
		return s.closeBlock(line)
	}
	return s.relation(line)
}

// before is a line before the first section, which libkrb5 passes over.
func (s *parser) before(line string) {
	line = strings.TrimSpace(line)
	if line != "" && line[0] != '#' && line[0] != ';' {
		s.warn("%.40q stands before the first section and is passed over, as libkrb5 does", line)
	}
}

func cutSpace(line string) (word, rest string, ok bool) {
	i := strings.IndexAny(line, " \t")
	if i <= 0 {
		return "", "", false
	}
	return line[:i], strings.TrimSpace(line[i:]), true
}

func (s *parser) section(line string) error {
	if len(s.stack) > 1 {
		return s.fault("section %q inside a block", line)
	}
	name, after, ok := strings.Cut(line[1:], "]")
	star, isFinal := strings.CutPrefix(after, "*")
	if !ok || strings.TrimSpace(star) != "" {
		return s.fault("malformed section %q", line)
	}
	n := s.root.child(name)
	if n == nil {
		n = &node{name: name, block: true, at: s.place()}
		s.root.children = append(s.root.children, n)
	}
	n.final = n.final || isFinal
	s.stack = []*node{n}
	return nil
}

func (s *parser) closeBlock(line string) error {
	if len(s.stack) < 2 {
		return s.fault("a block is closed that was not opened")
	}
	top := s.stack[len(s.stack)-1]
	top.final = top.final || strings.HasPrefix(line[1:], "*")
	s.stack = s.stack[:len(s.stack)-1]
	return nil
}

// relation is "name = value", "name = {" or "name =" with the brace in the next
// line.
func (s *parser) relation(line string) error {
	if len(s.stack) == 0 {
		return s.fault("%q stands outside of any section", line)
	}
	name, value, ok := strings.Cut(line, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return s.fault("%q is no \"name = value\"", line)
	}
	n := &node{name: name, value: unquote(value), at: s.place()}
	if before, _, marked := strings.Cut(name, "*"); marked {
		n.name, n.final = before, true
	}
	top := s.stack[len(s.stack)-1]
	top.children = append(top.children, n)
	body, isBlock := strings.CutPrefix(value, "{")
	if value != "" && !isBlock {
		return nil
	}
	if len(s.stack) >= maxNesting {
		return s.fault("more than %d blocks inside each other", maxNesting)
	}
	n.value, n.block, s.brace = "", true, value == ""
	s.stack = append(s.stack, n)
	return s.oneLine(strings.TrimSpace(body))
}

// openBrace is the line after "name =".
func (s *parser) openBrace(line string) error {
	s.brace = false
	if !strings.HasPrefix(line, "{") {
		return s.fault("%q has neither a value nor a brace", s.stack[len(s.stack)-1].name)
	}
	return nil
}

// oneLine reads what stands behind the brace of "A = { kdc = h }". libkrb5
// takes all of that for A's value; whoever wrote it meant a block.
func (s *parser) oneLine(body string) error {
	if body == "" {
		return nil
	}
	s.warn("libkrb5 does not read a block that begins and ends in one line")
	inner, closed := strings.CutSuffix(body, "}")
	if inner = strings.TrimSpace(inner); inner != "" {
		if err := s.relation(inner); err != nil {
			return err
		}
	}
	if closed {
		return s.closeBlock("}")
	}
	return nil
}

// unquote strips the quotes of a value that begins with one, and its escapes;
// what follows the closing quote is dropped.
func unquote(v string) string {
	if len(v) == 0 || v[0] != '"' {
		return v
	}
	var b strings.Builder
	for i := 1; i < len(v) && v[i] != '"'; i++ {
		c := v[i]
		if c == '\\' && i+1 < len(v) {
			i++
			if c = v[i]; c != '0' {
				c = unescape(c)
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// include reads another file as if it stood here; its sections are its own.
func (s *parser) include(path string) error {
	if !filepath.IsAbs(path) {
		return s.fault("include wants an absolute path, not %q", path)
	}
	if slices.Contains(s.open, path) {
		return s.fault("%s includes itself", path)
	}
	if len(s.open) > maxInclude {
		return s.fault("more than %d includes inside each other", maxInclude)
	}
	if err := s.profile.readFile(path, s.root, s.open); err != nil {
		return s.fault("include: %w", err)
	}
	return nil
}

// includeDir reads the files of a directory whose names libkrb5 takes: letters,
// digits, "-" and "_" only, or ending in ".conf", and not hidden.
func (s *parser) includeDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return s.fault("includedir wants an absolute path, not %q", dir)
	}
	entries, err := os.ReadDir(dir) // sorted by name, as libkrb5 does
	if err != nil {
		return s.fault("includedir: %w", err)
	}
	for _, e := range entries {
		if !included(e.Name()) || e.IsDir() {
			continue
		}
		if err := s.include(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func included(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	if strings.HasSuffix(name, ".conf") {
		return true
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
}

// child gives the first block of that name.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name && c.block {
			return c
		}
	}
	return nil
}
