package cyrus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"strconv"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// An annotated message has annotations in cyrus.annotations: their terms in
// IndexHeader.SyncAnnot, and the octets they take of the quota.
type annotated struct {
	sum    uint32
	octets int64
}

// ownerToken stands in keys for the mailbox's owner.
const ownerToken = "[.OwNeR.]"

// annotations reads those that the mailbox's messages have; nil when there are
// none. Versions before 13 do not count them.
func (m *mailbox) annotations(ctx context.Context, l *layout) (map[uint32]annotated, error) {
	if l.minor < 13 {
		return nil, nil
	}
	path, err := m.store.conf.Path(m.place, imapdconf.AnnotationsFile)
	if err != nil {
		return nil, told(err)
	}
	if info, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil, nil
	}
	db := imapdconf.Database{Backend: m.store.conf.Databases.Annotation, Path: path}
	found := make(map[uint32]annotated)
	owner := m.place.Name.Userid()
	err = cyrusdb.View(ctx, db, func(r cyrusdb.Reader) error {
		return r.Range(nil, func(key, value []byte) error {
			uid, entry, userid, ok := splitAnnotationKey(key)
			if !ok {
				return fault(path, -1, "key %q is not an annotation's", key)
			}
			text, live, ok := annotationValue(value)
			if !ok {
				return fault(path, -1, "the value of %q is not an annotation", key)
			}
			if !live {
				return nil
			}
			if userid == ownerToken {
				userid = owner
			}
			a := found[uid]
			a.sum ^= annotationTerm(uid, entry, userid, text)
			a.octets += int64(len(text))
			found[uid] = a
			return nil
		})
	})
	return found, told(err)
}

// splitAnnotationKey reads <uid> NUL <entry> NUL <userid> NUL.
func splitAnnotationKey(key []byte) (uid uint32, entry, userid string, ok bool) {
	parts := bytes.Split(key, []byte{0})
	if len(parts) < 3 {
		return 0, "", "", false
	}
	n, err := strconv.ParseUint(string(parts[0]), 10, 32)
	return uint32(n), string(parts[1]), string(parts[2]), err == nil
}

// annotationValue reads a value: its length in a slot of the width of a C
// long, itself, NUL, its type, NUL, 8 octets, the modseq, and a flag since 3.0.
func annotationValue(v []byte) (text []byte, live, ok bool) {
	const (
		contentType = "\x00text/plain\x00"
		deleted     = 1
	)
	for _, slot := range []int{8, 4} { // 64-bit and 32-bit builds
		if len(v) < slot {
			continue
		}
		n := uint64(binary.BigEndian.Uint32(v))
		if n > uint64(len(v)-slot) {
			continue
		}
		text, rest := v[slot:slot+int(n)], v[slot+int(n):]
		if !bytes.HasPrefix(rest, []byte(contentType)) {
			continue
		}
		rest = rest[len(contentType):]
		live = len(rest) < 17 || rest[16]&deleted == 0
		return text, live, true
	}
	return nil, false, false
}
