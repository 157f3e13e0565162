package krb5conf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
)

// maxKeytab is the largest keytab read, in octets: some ten thousand keys.
const maxKeytab = 1 << 20

// ErrKeytab is a keytab that cannot be used. Errors that wrap it hold no octet
// of the file.
var ErrKeytab = errors.New("krb5conf: keytab cannot be used")

// DefaultKeytab gives the keytab libkrb5 would take: KRB5_KTNAME,
// default_keytab_name, /etc/krb5.keytab. p may be nil.
func DefaultKeytab(p *Profile) string {
	name := os.Getenv("KRB5_KTNAME")
	if name == "" && p != nil {
		name = p.Value("", "libdefaults", "default_keytab_name")
	}
	if name == "" {
		name = "/etc/krb5.keytab"
	}
	return KeytabPath(name)
}

// KeytabPath strips the type from a keytab name: kpopd reads files only.
func KeytabPath(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "WRFILE:"), "FILE:")
}

// A Key describes a keytab's entry without its key.
type Key struct {
	Principal string
	KVNO      int
	Enctype   int32
	Written   time.Time
}

// String is a key as the log and `kpop doctor` name it.
func (k Key) String() string {
	return fmt.Sprintf("%s kvno %d %s", k.Principal, k.KVNO, enctypeName(k.Enctype))
}

// enctypeNames are what klist prints; others are told by number.
var enctypeNames = map[int32]string{
	17: "aes128-cts-hmac-sha1-96",
	18: "aes256-cts-hmac-sha1-96",
	19: "aes128-cts-hmac-sha256-128",
	20: "aes256-cts-hmac-sha384-192",
	16: "des3-cbc-sha1",
	23: "arcfour-hmac",
}

func enctypeName(enctype int32) string {
	if name, ok := enctypeNames[enctype]; ok {
		return name
	}
	return fmt.Sprintf("enctype %d", enctype)
}

// keySizes are the octets of the keys that will be used (RFC 3962, RFC 8009). A
// key of another size panics in the library.
var keySizes = map[int32]int{17: 16, 18: 32, 19: 16, 20: 32}

// readKeytab reads the file whole. It must be a regular one, so that a pipe in
// its place cannot hold the server up.
func readKeytab(path string, loose bool) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, fmt.Errorf("%w: %w; kpopd's user must be able to read it", ErrKeytab, err)
	}
	defer file.Close() //nolint:errcheck // read only
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeytab, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", ErrKeytab, path)
	}
	forbidden := os.FileMode(0o077)
	if loose {
		forbidden = 0o037 // the group may read, no more
	}
	if info.Mode().Perm()&forbidden != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, so that others can read every mailbox; chmod 600 it", ErrKeytab, path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(file, maxKeytab+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeytab, err)
	}
	if len(b) > maxKeytab {
		return nil, fmt.Errorf("%w: %s is larger than %d octets", ErrKeytab, path, maxKeytab)
	}
	return b, nil
}

// splitKeytab checks the file's frame (MIT keytab file format, version 2) and
// gives its entries, so that gokrb5 never sees a damaged one: its errors quote
// what it could not read, keys included.
func splitKeytab(b []byte) ([]string, error) {
	if len(b) < 2 || b[0] != 5 || b[1] != 2 {
		return nil, errors.New("not a keytab of version 2; kadmin -q 'ktadd -k FILE pop/HOST' makes one")
	}
	var out []string
	for b = b[2:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, errors.New("cut short")
		}
		n := int64(int32(binary.BigEndian.Uint32(b))) //nolint:gosec // G115: negative lengths are holes
		size := max(n, -n)
		b = b[4:]
		if n == 0 {
			break // the end, for libkrb5
		}
		if size > int64(len(b)) {
			return nil, errors.New("cut short")
		}
		if n > 0 {
			if _, err := parseEntry(b[:size]); err != nil {
				return nil, fmt.Errorf("entry %d: %w", len(out)+1, err)
			}
			out = append(out, string(b[:size]))
		}
		b = b[size:]
	}
	if len(out) == 0 {
		return nil, errors.New("holds no key")
	}
	return out, nil
}

var errEntry = errors.New("malformed")

// parseEntry walks one entry; every length is checked.
func parseEntry(b []byte) (k Key, err error) {
	count, b, ok := take16(b)
	if !ok || count == 0 || count > maxComponents {
		return k, errEntry
	}
	var p Principal
	if p.Realm, b, ok = takeString(b); !ok {
		return k, errEntry
	}
	for range count {
		var c string
		if c, b, ok = takeString(b); !ok {
			return k, errEntry
		}
		p.Components = append(p.Components, c)
	}
	if len(b) < 4+4+1 { // name type, time, 8-bit kvno
		return k, errEntry
	}
	k.Principal = p.String()
	k.Written = time.Unix(int64(binary.BigEndian.Uint32(b[4:])), 0)
	k.KVNO = int(b[8])
	enctype, b, ok := take16(b[9:])
	key, b, whole := takeString(b)
	if !ok || !whole {
		return k, errEntry
	}
	k.Enctype = int32(int16(enctype)) //nolint:gosec // G115: enctypes are signed (RFC 3961 section 8)
	if size, known := keySizes[k.Enctype]; known && size != len(key) {
		return k, fmt.Errorf("key of %s has a wrong size", k)
	}
	if len(b) >= 4 { // 32-bit kvno, unless it is zero
		if kvno := binary.BigEndian.Uint32(b); kvno != 0 {
			k.KVNO = int(kvno)
		}
	}
	return k, nil
}

func take16(b []byte) (uint16, []byte, bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(b), b[2:], true
}

func takeString(b []byte) (string, []byte, bool) {
	n, b, ok := take16(b)
	if !ok || int(n) > len(b) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// parseKeytab hands checked entries to gokrb5. Its error is dropped: it may
// quote keys.
func parseKeytab(keys []heldKey) (kt *keytab.Keytab, err error) {
	defer func() {
		if recover() != nil {
			kt, err = nil, ErrKeytab
		}
	}()
	b := []byte{5, 2}
	for _, k := range keys {
		b = binary.BigEndian.AppendUint32(b, uint32(len(k.octets))) //nolint:gosec // G115: bounded by maxKeytab
		b = append(b, k.octets...)
	}
	kt = keytab.New()
	if kt.Unmarshal(b) != nil {
		return nil, ErrKeytab
	}
	return kt, nil
}
