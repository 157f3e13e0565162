package imapdconf

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// VirtDomains is the option virtdomains.
type VirtDomains int

// How a login name's @domain is understood.
const (
	VirtDomainsOff    VirtDomains = iota // the at sign is a character of the name
	VirtDomainsUserid                    // the domain comes from the login name only
	VirtDomainsOn                        // and else from the address the client connected to
)

// ExpungeMode is the option expunge_mode.
type ExpungeMode int

// What an expunge leaves behind.
const (
	ExpungeDelayed     ExpungeMode = iota // record and file stay until cyr_expire
	ExpungeSemidelayed                    // the file is unlinked at the next clean-up
	ExpungeImmediate                      // and the record dropped
)

// UIDLFormat is the option uidl_format.
type UIDLFormat int

// The forms of a unique-id.
const (
	UIDLCyrus   UIDLFormat = iota // uidvalidity.uid
	UIDLUIDOnly                   // uid
	UIDLDovecot                   // %08x%08x of uid, uidvalidity
	UIDLCourier                   // uidvalidity-uid
)

// A File is one of the kinds of file a mailbox is made of.
type File int

// The files of a mailbox directory, by their names in metapartition_files.
const (
	MessageFile      File = iota // <uid>.
	HeaderFile                   // cyrus.header
	IndexFile                    // cyrus.index
	CacheFile                    // cyrus.cache
	ExpungeFile                  // cyrus.expunge, 2.3 and before
	SquatFile                    // cyrus.squat
	AnnotationsFile              // cyrus.annotations
	LockFile                     // unused since 2.4
	DAVFile                      // cyrus.dav
	ArchiveCacheFile             // cyrus.cache of archived messages
	ArchivedFile                 // <uid>. of an archived message
)

// fileWords are the names in metapartition_files and metadir-FILE-NAME.
func fileWords() map[string]File {
	return map[string]File{
		"header": HeaderFile, "index": IndexFile, "cache": CacheFile, "expunge": ExpungeFile, "squat": SquatFile,
		"annotations": AnnotationsFile, "lock": LockFile, "dav": DAVFile, "archivecache": ArchiveCacheFile,
	}
}

// A span is a duration option with the unit of a bare number.
type span struct {
	value *time.Duration
	unit  time.Duration
}

// assign parses v into the field that target points to.
func assign(target any, v string) error {
	var err error
	switch t := target.(type) {
	case *string:
		*t = v
	case *[]string:
		*t = strings.Fields(v)
	case *bool:
		*t, err = parseSwitch(v)
	case *int:
		*t, err = parseInt(v)
	case span:
		*t.value, err = parseDuration(v, t.unit)
	case *VirtDomains:
		*t, err = parseEnum(v, map[string]VirtDomains{
			"off": VirtDomainsOff, "userid": VirtDomainsUserid, "on": VirtDomainsOn,
		})
	case *ExpungeMode:
		// "default" was the name of semidelayed up to 3.0.
		*t, err = parseEnum(v, map[string]ExpungeMode{
			"immediate": ExpungeImmediate, "semidelayed": ExpungeSemidelayed, "default": ExpungeSemidelayed,
			"delayed": ExpungeDelayed,
		})
	case *UIDLFormat:
		*t, err = parseEnum(v, map[string]UIDLFormat{
			"cyrus": UIDLCyrus, "uidonly": UIDLUIDOnly, "dovecot": UIDLDovecot, "courier": UIDLCourier,
		})
	case *[]File:
		*t, err = parseFiles(v)
	case func(string) error:
		err = t(v)
	}
	return err
}

func parseSwitch(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "yes", "on", "true", "1", "t", "y":
		return true, nil
	case "no", "off", "false", "0", "f", "n":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither yes nor no", v)
}

func parseInt(v string) (int, error) {
	n, err := strconv.ParseInt(v, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", v)
	}
	return int(n), nil
}

// parseEnum also takes the words for on and off that Cyrus normalises.
func parseEnum[T any](v string, values map[string]T) (T, error) {
	if on, err := parseSwitch(v); err == nil {
		v = map[bool]string{true: "on", false: "off"}[on]
	}
	e, ok := values[v]
	if !ok {
		return e, fmt.Errorf("%q is not one of its values", v)
	}
	return e, nil
}

func parseFiles(v string) ([]File, error) {
	var files []File
	for _, word := range strings.Fields(v) {
		f, ok := fileWords()[word]
		if !ok {
			return nil, fmt.Errorf("%q is not a meta file", word)
		}
		files = append(files, f)
	}
	return files, nil
}

// maxDuration keeps sums of units from overflowing; 100 years is plenty.
const maxDuration = 100 * 366 * 24 * time.Hour

// parseDuration reads 1d2h3m4s; a bare number takes the option's own unit.
func parseDuration(v string, unit time.Duration) (time.Duration, error) {
	digits, negative := strings.CutPrefix(v, "-")
	if digits == "" {
		return 0, errors.New("empty duration")
	}
	var sum time.Duration
	for digits != "" {
		end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
		u := unit
		number, rest := digits, ""
		if end >= 0 {
			number, rest = digits[:end], digits[end+1:]
			switch digits[end] {
			case 'd':
				u = 24 * time.Hour
			case 'h':
				u = time.Hour
			case 'm':
				u = time.Minute
			case 's':
				u = time.Second
			default:
				return 0, fmt.Errorf("%q is not a duration", v)
			}
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n > int64(maxDuration/u) {
			return 0, fmt.Errorf("%q is not a duration", v)
		}
		if sum += time.Duration(n) * u; sum > maxDuration {
			return 0, fmt.Errorf("%q is too long", v)
		}
		digits = rest
	}
	if negative {
		sum = -sum
	}
	return sum, nil
}
