// Package spool changes the maildrops of a realm from beside kpopd, as other
// programs do: it fills, delivers and expunges, under Cyrus's locks.
//
// Delivery and expunging are the store's own code. Filling is not: it keeps each
// octet of a message as it is, whatever its line ends, and makes 100,000
// messages in one change.
package spool

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A Spool is a Cyrus spool that its owner's programs may change.
type Spool struct {
	conf  *imapdconf.Config
	store *cyrus.Store
}

// Open reads an imapd.conf. The store's own session locks are kept apart from
// kpopd's: another program is not kept out by them, and shall not be here.
func Open(imapdConf string) (*Spool, error) {
	conf, err := imapdconf.Read(imapdConf)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	store, err := cyrus.Open(cyrus.Options{Config: conf, Mode: cyrus.Embedded, StateDir: filepath.Join(conf.Dir, "harness")})
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	return &Spool{conf: conf, store: store}, nil
}

// Close gives the store back.
func (s *Spool) Close() error { return s.store.Close() }

// Create makes users' maildrops.
func (s *Spool) Create(ctx context.Context, users ...string) error {
	for _, user := range users {
		if err := s.store.CreateMailbox(ctx, user); err != nil {
			return fmt.Errorf("spool: %s: %w", user, err)
		}
	}
	return nil
}

// Has says whether a user has a maildrop.
func (s *Spool) Has(ctx context.Context, user string) (bool, error) {
	_, err := s.place(ctx, user)
	if errors.Is(err, cyrusdb.ErrNoMailbox) || errors.Is(err, fs.ErrNotExist) { // or nobody has one yet
		return false, nil
	}
	return err == nil, err
}

// Append delivers the messages of a tar archive, in its order.
func (s *Spool) Append(ctx context.Context, user string, archive io.Reader) error {
	return eachMessage(archive, func(_ int64, text io.Reader) error {
		_, err := s.store.Append(ctx, user, text, time.Time{})
		return err
	})
}

func eachMessage(archive io.Reader, do func(size int64, text io.Reader) error) error {
	t := tar.NewReader(archive)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = do(h.Size, t)
		}
		if err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
}

// Expunge removes messages by their numbers, from 1, in the maildrop as it is
// now.
func (s *Spool) Expunge(ctx context.Context, user string, numbers ...int) (err error) {
	m, err := s.store.Open(ctx, user, mailstore.Holder{User: user, Remote: "the harness", Session: "expunge", Since: time.Now()})
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	slices.Sort(numbers)
	var gone []mailstore.Number
	for _, n := range slices.Compact(numbers) {
		if n < 1 || n > m.Len() {
			return fmt.Errorf("spool: %s has %d messages and no number %d", user, m.Len(), n)
		}
		gone = append(gone, mailstore.Number(n))
	}
	if err := m.Update(ctx, mailstore.Changes{Deleted: gone}); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}
