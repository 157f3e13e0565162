package rules

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/kpopd/kpopd/auth"
)

// A MapFile maps whole principals to local user names, one to a line:
//
//	# comment
//	alice@OTHER.TEST     alice
//	backup/arch@REALM.TEST  archive
//
// It is read again when it changes.
type MapFile struct{ file *watched[map[string]mapping] }

type mapping struct {
	user string
	line int
}

// OpenMapFile reads a map file. Its first version must be without fault.
func OpenMapFile(path string, log *slog.Logger) (*MapFile, error) {
	file, err := open(path, log, parseMap)
	if err != nil {
		return nil, err
	}
	return &MapFile{file}, nil
}

// Path is where the file lies.
func (m *MapFile) Path() string { return m.file.path }

// Find gives a principal's user and line.
func (m *MapFile) Find(principal string) (user string, line int, ok bool) {
	found, ok := m.file.current()[principal]
	return found.user, found.line, ok
}

func parseMap(text string) (map[string]mapping, error) {
	table := map[string]mapping{}
	for line, fields := range tableLines(text) {
		if len(fields) != 2 {
			return nil, fmt.Errorf("%d: want a principal and a user", line)
		}
		if _, err := parsePrincipal(fields[0]); err != nil {
			return nil, fmt.Errorf("%d: %w", line, err)
		}
		if err := auth.CheckUser(fields[1]); err != nil {
			return nil, fmt.Errorf("%d: %w", line, err)
		}
		if old, twice := table[fields[0]]; twice {
			return nil, fmt.Errorf("%d: %s has a line already: %d", line, quote(fields[0]), old.line)
		}
		table[fields[0]] = mapping{fields[1], line}
	}
	return table, nil
}

// tableLines yields number and fields of the lines that say something.
func tableLines(text string) func(yield func(int, []string) bool) {
	return func(yield func(int, []string) bool) {
		number := 0
		for line := range strings.Lines(text) {
			number++
			fields := strings.Fields(line)
			if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
				continue
			}
			if !yield(number, fields) {
				return
			}
		}
	}
}
