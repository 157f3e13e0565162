// Package maildir reads a Maildir as Dovecot keeps it, to bring its mail over
// with the unique-ids that POP clients know.
//
// Dovecot's numbers are in the file dovecot-uidlist:
//
//	3 V<uidvalidity> N<next UID> G<guid>
//	<uid> [<letter><value> ...] :<file name without flags>
//
// and in version 1:
//
//	1 <uidvalidity> <next UID>
//	<uid> <file name without flags>
//
// Version 3 is appended to without its first line being written anew: the next UID
// is what that says or the one after the last UID, whichever is greater.
//
// Files are in cur and new; what follows ":2," in a name are flags. Folders are
// directories beside them, each a Maildir: ".Lists.Go" is Go in Lists (Maildir++).
package maildir

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Flags are a message's, by the letters of its file's name.
type Flags struct {
	Seen, Answered, Flagged, Draft, Deleted bool
}

// A Message is a file.
type Message struct {
	UID     uint32
	Path    string
	Flags   Flags
	Arrived time.Time // the file's time

	// UniqueID is what Dovecot was told to answer to UIDL instead of what
	// follows from the UID (pop3_save_uidl); empty: nothing else.
	UniqueID string
}

// A Folder is a Maildir's messages in the order of their UIDs.
type Folder struct {
	UIDValidity uint32 // 0: there was no list
	Next        uint32 // the next UID
	Messages    []Message
	Missing     int // listed messages whose files are gone: removed, most often
}

// listName is Dovecot's file.
const listName = "dovecot-uidlist"

// maxLine bounds a line of it; names of files have at most 255 octets.
const maxLine = 8 << 10

// Read reads the Maildir dir. Nobody should be changing it meanwhile. Files that
// are not in the list yet, which no client has seen, get the next UIDs, the
// oldest first.
func Read(dir string) (*Folder, error) { return read(dir, true) }

// ReadFolder is Read for a folder, which may have no list: POP clients know
// unique-ids of the inbox.
func ReadFolder(dir string) (*Folder, error) { return read(dir, false) }

// Folders lists the folders of the Maildir dir: names as IMAP has them, in
// modified UTF-7 with a dot between levels, sorted. Each lies in dir/.NAME.
func Folders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("maildir: %w", err)
	}
	var names []string
	for _, e := range entries {
		name, isFolder := strings.CutPrefix(e.Name(), ".")
		if !isFolder || !e.IsDir() {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "cur")); err == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

func read(dir string, listed bool) (*Folder, error) {
	files, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("maildir: %w", err)
	}
	f := &Folder{}
	err = f.readList(filepath.Join(dir, listName), files)
	if errors.Is(err, fs.ErrNotExist) && !listed {
		f.Next, err = 1, nil
	}
	if err != nil {
		return nil, fmt.Errorf("maildir: %w", err)
	}
	rest := make([]Message, 0, len(files))
	for _, m := range files {
		rest = append(rest, m)
	}
	slices.SortFunc(rest, func(a, b Message) int {
		return cmp.Or(a.Arrived.Compare(b.Arrived), cmp.Compare(a.Path, b.Path))
	})
	for _, m := range rest {
		if f.Next == 0 { // after the last UID there can be
			return nil, errors.New("maildir: there is no further UID")
		}
		m.UID = f.Next
		f.Next++
		f.Messages = append(f.Messages, m)
	}
	return f, nil
}

// list finds the files, by their names without flags.
func list(dir string) (map[string]Message, error) {
	files := map[string]Message{}
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return nil, err
			}
			if !info.Mode().IsRegular() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			base, letters, _ := strings.Cut(e.Name(), ":2,")
			if _, twice := files[base]; twice {
				return nil, fmt.Errorf("%s: two files have the name %q", dir, base)
			}
			files[base] = Message{Path: filepath.Join(dir, sub, e.Name()), Flags: parseFlags(letters), Arrived: info.ModTime()}
		}
	}
	return files, nil
}

func parseFlags(letters string) Flags {
	has := func(letter string) bool { return strings.Contains(letters, letter) }
	return Flags{Seen: has("S"), Answered: has("R"), Flagged: has("F"), Draft: has("D"), Deleted: has("T")}
}

// readList gives the files their UIDs and takes them out of files.
func (f *Folder) readList(path string, files map[string]Message) error {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; without it there are no unique-ids to keep: let Dovecot open the Maildir once, or hand its messages to kpop deliver", err)
	}
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	version := 0
	last := uint32(0)
	for number := 1; lines.Scan(); number++ {
		if number == 1 {
			version, err = f.head(lines.Text())
		} else {
			err = f.entry(version, lines.Text(), files, &last)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if version == 0 {
		return fmt.Errorf("%s: empty", path)
	}
	return nil
}

func (f *Folder) head(line string) (version int, err error) {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return 0, errors.New("not the first line of a list of UIDs")
	}
	var validity, next string
	switch fields[0] {
	case "1":
		version, validity, next = 1, fields[1], fields[2]
	case "3":
		version = 3
		for _, field := range fields[1:] {
			switch field[0] {
			case 'V':
				validity = field[1:]
			case 'N':
				next = field[1:]
			}
		}
	default:
		return 0, fmt.Errorf("version %q is not known", fields[0])
	}
	if f.UIDValidity, err = number(validity); err != nil {
		return 0, err
	}
	f.Next, err = number(next)
	return version, err
}

// number reads a UID or UIDVALIDITY, which are never 0.
func number(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a UID", text)
	}
	return uint32(n), nil
}

func (f *Folder) entry(version int, line string, files map[string]Message, last *uint32) error {
	first, rest, _ := strings.Cut(line, " ")
	uid, err := number(first)
	if err != nil {
		return err
	}
	fields, name := "", rest
	if version == 3 {
		found := false
		if fields, name, found = strings.Cut(" "+rest, " :"); !found {
			return errors.New("no file name")
		}
	}
	if uid <= *last || uid == math.MaxUint32 || version == 1 && uid >= f.Next {
		return fmt.Errorf("UID %d after %d, where the next one is %d", uid, *last, f.Next)
	}
	*last, f.Next = uid, max(f.Next, uid+1)
	base, _, _ := strings.Cut(name, ":2,")
	m, found := files[base]
	if !found {
		f.Missing++
		return nil
	}
	delete(files, base)
	m.UID = uid
	for _, field := range strings.Fields(fields) {
		if field[0] == 'P' {
			m.UniqueID = field[1:]
		}
	}
	f.Messages = append(f.Messages, m)
	return nil
}
