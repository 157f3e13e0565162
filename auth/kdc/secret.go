package kdc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/types"
)

const (
	confounder = 16 // octets

	// Hash rounds that a KDC may ask for: not fewer than the oldest default
	// (RFC 3962 section 4), not so many that they stop the server.
	minRounds = 4096
	maxRounds = 1 << 20
)

// keySizes and macSizes are in octets (RFC 3962 section 6, RFC 8009 section 6).
var (
	keySizes = map[int32]int{17: 16, 18: 32, 19: 16, 20: 32}
	macSizes = map[int32]int{17: 12, 18: 12, 19: 16, 20: 24}
)

// A Secret is what a client shows the KDC that it has: a Password, or Keys.
type Secret interface {
	// enctypes are those to ask for, the most wanted first.
	enctypes(e *Exchange) ([]int32, error)

	// key is the client's of an enctype; methods are what the KDC says of its making.
	// A Refusal of KDC_ERR_ETYPE_NOSUPP: there is none.
	key(e *Exchange, enctype int32, methods types.PADataSequence) (types.EncryptionKey, error)
}

// offeredKey is of the first enctype of the KDC's that there is a key of.
func offeredKey(e *Exchange, secret Secret, methods types.PADataSequence) (types.EncryptionKey, error) {
	missing := &Refusal{errorcode.KDC_ERR_ETYPE_NOSUPP}
	for _, entry := range etypeInfo(methods) {
		key, err := secret.key(e, entry.EType, methods)
		if r := (*Refusal)(nil); !errors.As(err, &r) {
			return key, err
		}
	}
	return types.EncryptionKey{}, missing
}

// etypeInfo gives the KDC's ETYPE-INFO2 (RFC 4120 section 5.2.7.5), which every
// KDC that knows AES sends.
func etypeInfo(methods types.PADataSequence) types.ETypeInfo2 {
	for i := range methods {
		if methods[i].PADataType == patype.PA_ETYPE_INFO2 {
			if info, err := methods[i].GetETypeInfo2(); err == nil {
				return info
			}
		}
	}
	return nil
}

// Password is a user's password.
type Password string

func (Password) enctypes(*Exchange) ([]int32, error) { return slices.Clone(enctypes), nil }

// key derives the user's key with the KDC's salt and rounds, or the default ones.
func (p Password) key(e *Exchange, enctype int32, methods types.PADataSequence) (types.EncryptionKey, error) {
	if !slices.Contains(enctypes, enctype) {
		return types.EncryptionKey{}, &Refusal{errorcode.KDC_ERR_ETYPE_NOSUPP}
	}
	et, err := crypto.GetEtype(enctype)
	if err != nil {
		return types.EncryptionKey{}, fmt.Errorf("kdc: enctype %d: %w", enctype, err)
	}
	salt, params := e.client.GetSalt(e.realm.Name), et.GetDefaultStringToKeyParams()
	for _, entry := range etypeInfo(methods) {
		if entry.EType != enctype {
			continue
		}
		if entry.Salt != "" {
			salt = entry.Salt
		}
		if len(entry.S2KParams) > 0 {
			params = hex.EncodeToString(entry.S2KParams)
		}
		break
	}
	if !saneRounds(params) {
		return types.EncryptionKey{}, fmt.Errorf("kdc: the KDC asks for %q hash rounds", params)
	}
	b, err := et.StringToKey(string(p), salt, params)
	if err != nil {
		return types.EncryptionKey{}, errors.New("kdc: the key cannot be made") // the library's words may hold what it was given
	}
	return types.EncryptionKey{KeyType: enctype, KeyValue: b}, nil
}

func saneRounds(params string) bool {
	b, err := hex.DecodeString(params)
	if err != nil || len(b) != 4 {
		return false
	}
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return n >= minRounds && n <= maxRounds
}

// Keys are a service's own, in a keytab; of each enctype the newest counts.
type Keys struct{ *keytab.Keytab }

// enctypes are those of the keytab, so that the KDC takes one of them, and then the
// others for session keys.
func (k Keys) enctypes(e *Exchange) ([]int32, error) {
	var has, others []int32
	for _, enctype := range enctypes {
		if _, err := k.key(e, enctype, nil); err == nil {
			has = append(has, enctype)
		} else {
			others = append(others, enctype)
		}
	}
	if has == nil {
		return nil, fmt.Errorf("kdc: the keytab has no AES key of %s@%s", e.client.PrincipalNameString(), e.realm.Name)
	}
	return append(has, others...), nil
}

// key is the newest; a KDC that has changed it since does not take it.
func (k Keys) key(e *Exchange, enctype int32, _ types.PADataSequence) (types.EncryptionKey, error) {
	key, _, err := k.GetEncryptionKey(e.client, e.realm.Name, 0, enctype)
	if err != nil || keySizes[enctype] != len(key.KeyValue) {
		return types.EncryptionKey{}, &Refusal{errorcode.KDC_ERR_ETYPE_NOSUPP}
	}
	return key, nil
}

// Open decrypts a part of a message or a ticket. Its length is checked first: gokrb5
// slices before it looks.
func Open(sealed types.EncryptedData, key types.EncryptionKey, usage uint32) ([]byte, error) {
	if sealed.EType != key.KeyType || keySizes[key.KeyType] != len(key.KeyValue) || len(key.KeyValue) == 0 ||
		len(sealed.Cipher) < confounder+macSizes[key.KeyType] {
		return nil, errors.New("kdc: ciphertext does not fit the key")
	}
	b, err := crypto.DecryptEncPart(sealed, key, usage)
	if err != nil {
		return nil, errors.New("kdc: ciphertext does not open")
	}
	return b, nil
}
