package bench

import (
	"archive/tar"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A group is maildrops that all hold the same messages.
type group struct {
	name  string
	users int
	count int // messages in each
	size  int // octets of a message
}

func (g group) user(i int) string { return fmt.Sprintf("%s%05d", g.name, i) }

func (g group) names() []string {
	all := make([]string, g.users)
	for i := range all {
		all[i] = g.user(i)
	}
	return all
}

// archive writes the messages as a tar archive.
func (g group) archive(w io.Writer) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	t := tar.NewWriter(buffered)
	for i := range g.count {
		m := message(i+1, g.size)
		if err := t.WriteHeader(&tar.Header{Name: fmt.Sprint(i + 1), Mode: 0o600, Size: int64(len(m))}); err != nil {
			return err
		}
		if _, err := t.Write(m); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// reader is the archive as it is made.
func (g group) reader() io.Reader {
	r, w := io.Pipe()
	go func() { w.CloseWithError(g.archive(w)) }()
	return r
}

// maildir writes the messages as a Maildir for Dovecot.
func (g group) maildir(dir string, mail owner) error {
	for _, sub := range []string{"", "cur", "new", "tmp"} {
		path := filepath.Join(dir, sub)
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		if err := os.Chown(path, mail.uid, mail.gid); err != nil {
			return err
		}
	}
	for i := range g.count {
		m := message(i+1, g.size)
		path := filepath.Join(dir, "cur", maildirName(i+1, len(m)))
		if err := os.WriteFile(path, m, 0o600); err != nil {
			return err
		}
		if err := os.Chown(path, mail.uid, mail.gid); err != nil {
			return err
		}
	}
	return nil
}

// lengths are those of what RETR and TOP n 0 send for each message.
type lengths struct{ retr, top []int }

// measure makes every message once more; it takes a while.
func (g group) measure() lengths {
	var l lengths
	for i := range g.count {
		m := message(i+1, g.size)
		l.retr = append(l.retr, len(m)+bytes.Count(m, []byte("\n."))+len(".\r\n"))
		l.top = append(l.top, len(top(m)))
	}
	return l
}

// A corpus is all groups of a run.
type corpus struct {
	poll  group // who polls: ten messages of 2 KiB
	big   group // 1 MiB
	small group // 4 KiB
	huge  group // 200 MiB
	lists []group
	dele  group // one maildrop for each round
	idle  group
	mail  group // empty at first: for deliveries
}

// newCorpus sizes the maildrops.
func newCorpus(o Options) corpus {
	c := corpus{
		poll:  group{"poll", 400, 10, 2 << 10},
		big:   group{"big", 8, 8, 1 << 20},
		small: group{"small", 8, 2500, 4 << 10},
		huge:  group{"huge", 1, 1, 200 << 20},
		lists: []group{{"k1x", 1, 1000, 700}, {"k10x", 1, 10_000, 700}, {"k100x", 1, 100_000, 700}},
		dele:  group{"dele", o.Rounds, 10_000, 2 << 10},
		idle:  group{"idle", 10_000, 1, 2 << 10},
		mail:  group{"mail", 8, 0, 0},
	}
	switch o.Size {
	case Quick:
		c.poll.users, c.big.users, c.small.users, c.small.count = 100, 2, 2, 1000
		c.huge.users, c.lists, c.idle.users = 0, c.lists[:2], 500
		c.dele.count = 2000
	case Tiny:
		c.poll.users, c.big.users, c.small.users, c.small.count = 8, 1, 1, 50
		c.huge.users, c.lists, c.idle.users = 0, nil, 0
		c.dele.users, c.mail.users = 0, 0
	}
	return c
}

// keep leaves out the maildrops that no scenario wants.
func (c *corpus) keep(chosen []scenario) {
	wanted := map[string]bool{}
	for _, s := range chosen {
		wanted[s.mail(c).name] = true
	}
	all := []*group{&c.poll, &c.big, &c.small, &c.huge, &c.dele, &c.idle, &c.mail}
	for i := range c.lists {
		all = append(all, &c.lists[i])
	}
	for _, g := range all {
		if !wanted[g.name] {
			g.users = 0
		}
	}
}

func (c *corpus) groups() []group {
	return append([]group{c.poll, c.big, c.small, c.huge, c.dele, c.idle, c.mail}, c.lists...)
}
