package mailstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// What working with folders can end in, besides the errors of maildrops.
var (
	ErrNoFolder     = errors.New("no such folder")
	ErrFolderExists = errors.New("folder exists")
	ErrFolderName   = errors.New("not a folder name")
	ErrFolderInUse  = errors.New("folder has messages or folders") // it is not deleted
	ErrElsewhere    = errors.New("changed by another program only")
)

// Inbox is the name of the folder that a login opens; letter case is of no
// account in it (RFC 3501 section 5.1).
const Inbox = "INBOX"

// A Folder is one of a user's folders.
type Folder struct {
	Name     string // UTF-8; levels are parted by slashes
	Messages int
	Octets   int64 // as stored
}

// Folders is a Maildrop that knows its user's folders. A name never leads out
// of them. What changes something is durable when it returns nil, and done whole
// or not at all; a store that leaves changes to another program refuses them
// with ErrElsewhere.
type Folders interface {
	Maildrop

	// Folders lists the folders, the inbox first, the others by name.
	Folders(ctx context.Context) ([]Folder, error)

	// Select opens a folder as Store.Open opens the inbox. The Maildrop that
	// was asked stays open, unless it is this very folder: then it is closed.
	Select(ctx context.Context, folder string) (Folders, error)

	CreateFolder(ctx context.Context, folder string) error
	// DeleteFolder deletes a folder without messages and folders below it.
	DeleteFolder(ctx context.Context, folder string) error
	// RenameFolder gives a folder, with all below it, another name.
	RenameFolder(ctx context.Context, from, to string) error

	// Copy adds copies of messages to a folder, with their flags.
	Copy(ctx context.Context, ns []Number, folder string) error
	// Append adds a message to a folder.
	Append(ctx context.Context, folder string, message io.Reader) error

	// Flags tells a message's flags as they are now.
	Flags(ctx context.Context, n Number) (Flags, error)
	// SetFlags sets some and clears others, and tells what they are then.
	SetFlags(ctx context.Context, n Number, set, clear Flags) (Flags, error)
}

// Flags are a message's system flags (RFC 9051 section 2.3.2).
type Flags uint8

// The flags.
const (
	FlagAnswered Flags = 1 << iota
	FlagFlagged
	FlagDeleted
	FlagDraft
	FlagSeen
)

var flagNames = [...]string{`\Answered`, `\Flagged`, `\Deleted`, `\Draft`, `\Seen`}

// ParseFlag reads a flag's name, in any letter case, with its backslash or
// without.
func ParseFlag(s string) (Flags, error) {
	s = strings.TrimPrefix(s, `\`)
	for i, name := range flagNames {
		if strings.EqualFold(s, name[1:]) {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("mailstore: unknown flag %.32q", s)
}

// String is the flags' names with blanks between.
func (f Flags) String() string {
	var names []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}
