package krb5conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Limits of a configuration: far above what sites have, and enough to stop a
// file that includes itself.
const (
	maxFile    = 1 << 20
	maxFiles   = 512
	maxLine    = 64 << 10
	maxInclude = 16
	maxNesting = 32
)

// A Profile is a krb5.conf, or several of which the first that has a value
// wins (MIT krb5.conf(5)). It does not change once it is loaded.
type Profile struct {
	files    []*node
	Sources  []string // files read, in order
	Warnings []string // what was passed over, with its place
}

// A node is a section, a block or a relation, in the file's order.
type node struct {
	name     string
	value    string
	at       string // file:line
	block    bool
	final    bool // marked by *: later files add nothing
	children []*node
}

// DefaultPaths gives the files libkrb5 would read: KRB5_CONFIG as a list, or
// /etc/krb5.conf.
func DefaultPaths() []string {
	var paths []string
	for path := range strings.SplitSeq(os.Getenv("KRB5_CONFIG"), ":") {
		if path != "" {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return []string{"/etc/krb5.conf"}
	}
	return paths
}

// Load reads paths in order. A file that is missing is passed over as libkrb5
// does, unless all are; one that is there and cannot be read is an error.
func Load(paths ...string) (*Profile, error) {
	p := &Profile{}
	for _, path := range paths {
		root := &node{block: true}
		err := p.readFile(path, root, nil)
		if errors.Is(err, os.ErrNotExist) && len(root.children) == 0 {
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
	p.review()
	return p, nil
}

// Parse reads one configuration that is not in a file; includes in it are
// followed. name stands in errors.
func Parse(name, text string) (*Profile, error) {
	p := &Profile{Sources: []string{name}}
	root := &node{block: true}
	if err := p.parse(name, text, root, nil); err != nil {
		return nil, err
	}
	p.files = []*node{root}
	p.review()
	return p, nil
}

// readFile reads path into root. open are the files that include it.
func (p *Profile) readFile(path string, root *node, open []string) error {
	if len(p.Sources) >= maxFiles {
		return fmt.Errorf("krb5conf: more than %d files", maxFiles)
	}
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
	return p.parse(path, string(b), root, append(open, path))
}

// Values gives all values of a relation, such as the kdc lines of
// ("realms", "REALM", "kdc"), from every file until a final section.
func (p *Profile) Values(path ...string) []string {
	var out []string
	for _, n := range p.nodes(path...) {
		if !n.block {
			out = append(out, n.value)
		}
	}
	return out
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
		blocks, final := root.find(path)
		for _, b := range blocks {
			for _, c := range b.children {
				if !seen[c.name] {
					seen[c.name] = true
					out = append(out, c.name)
				}
			}
		}
		if final {
			break
		}
	}
	return out
}

// nodes gives the relations and blocks at path.
func (p *Profile) nodes(path ...string) []*node {
	if len(path) == 0 {
		return nil
	}
	var out []*node
	last := path[len(path)-1]
	for _, root := range p.files {
		blocks, final := root.find(path[:len(path)-1])
		for _, b := range blocks {
			for _, c := range b.children {
				if c.name == last {
					out = append(out, c)
				}
			}
		}
		if final {
			break
		}
	}
	return out
}

// find gives the blocks at path: equally named ones are one to libkrb5. final
// says that later files add nothing to them.
func (n *node) find(path []string) (blocks []*node, final bool) {
	blocks = []*node{n}
	for _, name := range path {
		var next []*node
		for _, b := range blocks {
			for _, c := range b.children {
				if c.block && c.name == name {
					next = append(next, c)
					final = final || c.final
				}
			}
		}
		blocks = next
	}
	return blocks, final
}
