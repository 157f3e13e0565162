package cyrus

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/bodycache"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// Mode is who owns the spool.
type Mode int

// The modes.
const (
	Shared   Mode = iota // Cyrus does; deliveries are left to it
	Embedded             // this program does
	ReadOnly             // nothing on it is changed
)

// Options are a Store's.
type Options struct {
	Config *imapdconf.Config

	// StateDir holds the locks of sessions and what is known of messages'
	// octets; empty: "kpop" in configdirectory. All processes that serve the
	// spool must have the same.
	StateDir string

	Mode Mode

	// Remover removes messages where this package does not; nil: such
	// maildrops are read-only.
	Remover Remover
	Log     *slog.Logger     // nil: none
	Now     func() time.Time // nil: time.Now

	// LockWaited is told how long a lock that another program or session held
	// was waited for; nil: nobody.
	LockWaited func(time.Duration)

	// Panicked is told of each fault over a message's text that was caught, with
	// the stack; nil: nobody.
	Panicked func(value any, stack []byte)

	// Location is the zone in which Cyrus runs: the day of a Date field is
	// stored as its midnight there. Nil: time.Local.
	Location *time.Location
}

// A Store is a Cyrus spool.
type Store struct {
	conf     *imapdconf.Config
	mode     Mode
	remover  Remover
	log      *slog.Logger
	now      func() time.Time
	location *time.Location
	waited   func(time.Duration)
	panicked func(value any, stack []byte)
	build    func(text []byte, o bodycache.Options) (bodycache.Record, error)
	stateDir string
	holds    holds
	disk     disk
	plain    sizeMemo
	dots     dotMemo
	large    largeMemo
	places   cyrusdb.Places
	blocks   sync.Pool // *[]byte of blockSize
	open     budget    // of directories that maildrops keep open
}

// openDirectories bounds the directories kept open by busy sessions: with one for
// each, ten thousand would need twice as many descriptors as they have sockets.
const openDirectories = 1024

// A budget counts what may be had so often at a time.
type budget struct{ left atomic.Int32 }

func (b *budget) take() bool {
	if b.left.Add(-1) >= 0 {
		return true
	}
	b.left.Add(1)
	return false
}

func (b *budget) give() { b.left.Add(1) }

// How long locks of other programs are waited for. At login a client is
// waiting for its greeting; at QUIT its deletions are worth more patience.
const (
	openWait   = 10 * time.Second
	changeWait = 30 * time.Second
)

// blockSize is what is read at once.
const blockSize = 256 << 10

// Open prepares a spool. The state directory is made when it is not there, and
// what root makes in it belongs to its owner.
func Open(o Options) (*Store, error) {
	if o.Config == nil {
		return nil, errors.New("cyrus: no configuration")
	}
	s := &Store{
		conf: o.Config, mode: o.Mode, remover: o.Remover, log: o.Log, now: o.Now, location: o.Location,
		waited: o.LockWaited, panicked: o.Panicked, build: bodycache.Build, stateDir: o.StateDir,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.panicked == nil {
		s.panicked = func(any, []byte) {}
	}
	if s.location == nil {
		s.location = time.Local
	}
	if s.stateDir == "" {
		s.stateDir = filepath.Join(o.Config.Dir, "kpop")
	}
	s.dots.now, s.large.now = time.Now, time.Now // not o.Now: it is compared with times of files
	s.open.left.Store(openDirectories)
	s.blocks.New = func() any { b := make([]byte, blockSize); return &b }
	s.holds.dir = filepath.Join(s.stateDir, "locks")
	s.holds.by, s.holds.in = make(map[uint64]hold), s.inState
	if err := s.makeState(); err != nil {
		return nil, err
	}
	return s, nil
}

// Close gives back what the Store holds; no maildrop may be open.
func (s *Store) Close() error {
	s.holds.close()
	return nil
}

// Holders lists the sessions of this process and what they hold, the oldest
// first.
func (s *Store) Holders() []Held { return s.holds.list() }

// fileMode is that of new files on the spool, and dirMode of directories: what
// imapd.conf's umask leaves, as with Cyrus's own.
func (s *Store) fileMode() fs.FileMode { return 0o666&^s.conf.Umask | 0o600 }
func (s *Store) dirMode() fs.FileMode  { return 0o755&^s.conf.Umask | 0o700 }

// Directory is configdirectory.
func (s *Store) Directory() string { return s.conf.Dir }

// POP is how imapd.conf tells pop3d to behave.
func (s *Store) POP() imapdconf.POP { return s.conf.POP }

// Names is how login names and mailbox names are written.
func (s *Store) Names() imapdconf.Names { return s.conf.Names }

// name is the mailbox that a login name stands for.
func (s *Store) name(mailbox string) (imapdconf.Name, error) {
	if s.conf.POP.Subfolders {
		n, err := s.conf.Names.ParseLogin(mailbox)
		return n, told(err)
	}
	n, err := s.conf.Names.ParseUserid(mailbox)
	return n, told(err)
}

// Open implements mailstore.Store. The mailbox is a login name: user,
// user@domain and, under popsubfolders, user+folder.
func (s *Store) Open(ctx context.Context, mailbox string, h mailstore.Holder) (mailstore.Maildrop, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	if err := s.admits(ctx, name); err != nil {
		return nil, err
	}
	m, err := s.beginSession(ctx, name)
	if err != nil {
		return nil, err
	}
	defer m.release()
	if err := s.mayLogin(m); err != nil {
		return nil, err
	}
	key := m.holdKey()
	if err := s.holds.acquire(key, name.Intname(), &h); err != nil {
		return nil, told(err)
	}
	d, err := s.snapshot(ctx, m, &h, cmp.Or(h.LoginDelay, s.conf.POP.MinPoll))
	if err != nil {
		return nil, errors.Join(told(err), s.holds.give(key))
	}
	d.key = key
	return d, nil
}

// beginSession is begin for a session, after a change that was cut off has been
// undone.
func (s *Store) beginSession(ctx context.Context, name imapdconf.Name) (*mailbox, error) {
	m, err := s.begin(ctx, name, toRead)
	if err != nil || s.mode == ReadOnly || !m.isTorn() {
		return m, err
	}
	m.release()
	if err := s.recover(ctx, name); err != nil {
		return nil, err
	}
	return s.begin(ctx, name, toRead)
}

// holdKey names the maildrop for holds: an entry of Cyrus 2.4 may lack the
// uniqueid.
func (m *mailbox) holdKey() uint64 {
	if m.place.UniqueID != "" {
		return holdKey(m.place.UniqueID)
	}
	return holdKey("name " + m.place.Name.Intname())
}
