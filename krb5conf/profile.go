package krb5conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Limits of a configuration: what libkrb5 reads in practice, and enough to stop
// a file that includes itself.
const (
	maxFile    = 1 << 20
	maxLine    = 64 << 10
	maxInclude = 16
	maxNesting = 32
)

// A Profile is a krb5.conf, or several of which the first that has a value
// wins (MIT krb5.conf(5)).
type Profile struct {
	files    []*node
	Sources  []string // files read, in order
	Warnings []string // what was passed over, for `kpop doctor`
}

// A node is a section or a block: relations and blocks in the file's order.
type node struct {
	name     string
	value    string
	block    bool
	final    bool // marked by *: later files add nothing
	children []*node
}

// DefaultPaths gives the files libkrb5 would read: KRB5_CONFIG as a list, or
// /etc/krb5.conf.
func DefaultPaths() []string {
	if list := os.Getenv("KRB5_CONFIG"); list != "" {
		return strings.Split(list, ":")
	}
	return []string{"/etc/krb5.conf"}
}

// Load reads paths in order. A file that is missing is passed over as libkrb5
// does, unless all are.
func Load(paths ...string) (*Profile, error) {
	p := &Profile{}
	for _, path := range paths {
		root := &node{block: true}
		err := p.readFile(path, root, 0)
		if errors.Is(err, os.ErrNotExist) {
			p.Warnings = append(p.Warnings, path+": no such file")
			continue
		}
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, root)
	}
	if len(p.files) == 0 {
		return nil, fmt.Errorf("krb5conf: no Kerberos configuration in %s: %w", strings.Join(paths, ", "), os.ErrNotExist)
	}
	return p, nil
}

// Parse reads one configuration that is not in a file; includes in it are
// followed. name stands in errors.
func Parse(name, text string) (*Profile, error) {
	p := &Profile{Sources: []string{name}}
	root := &node{block: true}
	if err := p.parse(name, text, root, 0); err != nil {
		return nil, err
	}
	p.files = []*node{root}
	return p, nil
}

func (p *Profile) readFile(path string, root *node, depth int) error {
	f, err := os.Open(path) //nolint:gosec // G304: reading the file that was named is the purpose
	if err != nil {
		return fmt.Errorf("krb5conf: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fmt.Errorf("krb5conf: %w", err)
	}
	if len(b) > maxFile {
		return fmt.Errorf("krb5conf: %s is larger than %d octets", path, maxFile)
	}
	p.Sources = append(p.Sources, path)
	return p.parse(path, string(b), root, depth)
}

// A parser is one file on its way into a tree. Blocks are closed in the file
// that opened them.
type parser struct {
	profile *Profile
	file    string
	line    int
	root    *node
	stack   []*node // open section and blocks
	depth   int     // of includes
}

func (p *Profile) parse(file, text string, root *node, depth int) error {
	if depth > maxInclude {
		return fmt.Errorf("krb5conf: %s: more than %d includes inside each other", file, maxInclude)
	}
	s := &parser{profile: p, file: file, root: root, depth: depth}
	for line := range strings.Lines(text) {
		s.line++
		if len(line) > maxLine {
			return s.fault("line is too long")
		}
		if err := s.take(strings.TrimSpace(line)); err != nil {
			return err
		}
	}
	if len(s.stack) > 1 {
		return s.fault("block %q is not closed", s.stack[len(s.stack)-1].name)
	}
	return nil
}

func (s *parser) fault(format string, args ...any) error {
	return fmt.Errorf("krb5conf: %s:%d: %s", s.file, s.line, fmt.Sprintf(format, args...))
}

// take is one line. Comments are whole lines only: "#" and ";" inside a value
// belong to it, auth_to_local rules use them.
func (s *parser) take(line string) error {
	switch {
	case line == "", line[0] == '#', line[0] == ';':
		return nil
	case line[0] == '[':
		return s.section(line)
	case line[0] == '}':
		return s.closeBlock(line)
	}
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "include":
		return s.include(strings.TrimSpace(rest))
	case "includedir":
		return s.includeDir(strings.TrimSpace(rest))
	case "module":
		return s.fault("module is not supported; put what it gives into the file")
	}
	return s.relation(line)
}

func (s *parser) section(line string) error {
	name, after, ok := strings.Cut(line[1:], "]")
	if !ok || len(s.stack) > 1 {
		return s.fault("malformed or misplaced section %q", line)
	}
	n := s.root.child(name)
	if n == nil {
		n = &node{name: name, block: true}
		s.root.children = append(s.root.children, n)
	}
	n.final = n.final || strings.TrimSpace(after) == "*"
	s.stack = []*node{n}
	return nil
}

func (s *parser) closeBlock(line string) error {
	if len(s.stack) < 2 {
		return s.fault("a block is closed that was not opened")
	}
	top := s.stack[len(s.stack)-1]
	switch rest := strings.TrimSpace(line[1:]); rest {
	case "":
	case "*":
		top.final = true
	default:
		return s.fault("%q behind a closing brace", rest)
	}
	s.stack = s.stack[:len(s.stack)-1]
	return nil
}

// relation is "name = value", "name = {" or a whole block on one line.
func (s *parser) relation(line string) error {
	if len(s.stack) == 0 {
		return s.fault("%q stands before the first section", line)
	}
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		return s.fault("%q is no \"name = value\"", line)
	}
	n := &node{name: strings.TrimSpace(name), value: strings.TrimSpace(value)}
	n.name, n.final = strings.CutSuffix(n.name, "*")
	n.name = strings.TrimSpace(n.name)
	top := s.stack[len(s.stack)-1]
	top.children = append(top.children, n)
	body, isBlock := strings.CutPrefix(n.value, "{")
	if !isBlock {
		n.value = unquote(n.value)
		return nil
	}
	n.value, n.block = "", true
	if len(s.stack) >= maxNesting {
		return s.fault("more than %d blocks inside each other", maxNesting)
	}
	s.stack = append(s.stack, n)
	return s.oneLine(strings.TrimSpace(body))
}

// oneLine reads what stands behind the brace of "A = { kdc = h }".
func (s *parser) oneLine(body string) error {
	if body == "" {
		return nil
	}
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

// escapes are the quoted octets that stand for another (MIT profile parser).
var escapes = map[byte]byte{'n': '\n', 't': '\t', 'b': '\b'}

// unquote strips the quotes of a value that begins with one, and its escapes.
func unquote(v string) string {
	if len(v) == 0 || v[0] != '"' {
		return v
	}
	var b strings.Builder
	for i := 1; i < len(v) && v[i] != '"'; i++ {
		c := v[i]
		if c == '\\' && i+1 < len(v) {
			i++
			c = v[i]
			if e, ok := escapes[c]; ok {
				c = e
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
	if err := s.profile.readFile(path, s.root, s.depth+1); err != nil {
		return s.fault("%v", err)
	}
	return nil
}

// includeDir reads the files of a directory whose names libkrb5 takes: letters,
// digits, "-" and "_" only, or ending in ".conf", and not hidden.
func (s *parser) includeDir(dir string) error {
	if !filepath.IsAbs(dir) {
		return s.fault("includedir wants an absolute path, not %q", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		s.profile.Warnings = append(s.profile.Warnings, s.fault("%v", err).Error())
		return nil
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, e := range entries {
		if !included(e.Name()) || e.IsDir() {
			continue
		}
		if err := s.profile.readFile(filepath.Join(dir, e.Name()), s.root, s.depth+1); err != nil {
			return s.fault("%v", err)
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
	return name != "" && strings.IndexFunc(name, func(r rune) bool {
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

// Values gives all values of a relation, such as the kdc lines of
// ("realms", "REALM", "kdc"): those of every file until one is final.
func (p *Profile) Values(path ...string) []string {
	var out []string
	for _, root := range p.files {
		found, final := root.values(path)
		out = append(out, found...)
		if final {
			break
		}
	}
	return out
}

func (n *node) values(path []string) (out []string, final bool) {
	for _, c := range n.children {
		if c.name != path[0] {
			continue
		}
		if len(path) == 1 {
			if !c.block {
				out = append(out, c.value)
				final = final || c.final
			}
			continue
		}
		if c.block {
			found, done := c.values(path[1:])
			out = append(out, found...)
			final = final || done || c.final
		}
	}
	return out, final
}

// Value gives a relation's first value, or otherwise.
func (p *Profile) Value(otherwise string, path ...string) string {
	if v := p.Values(path...); len(v) > 0 {
		return v[0]
	}
	return otherwise
}

// Names gives the names of what lies in a block, in order and once each, such
// as the realms of ("realms").
func (p *Profile) Names(path ...string) []string {
	var out []string
	seen := map[string]bool{}
	for _, root := range p.files {
		for _, n := range root.blocks(path) {
			for _, c := range n.children {
				if !seen[c.name] {
					seen[c.name] = true
					out = append(out, c.name)
				}
			}
		}
	}
	return out
}

func (n *node) blocks(path []string) []*node {
	if len(path) == 0 {
		return []*node{n}
	}
	var out []*node
	for _, c := range n.children {
		if c.block && c.name == path[0] {
			out = append(out, c.blocks(path[1:])...)
		}
	}
	return out
}
