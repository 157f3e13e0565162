package cyrus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// TestRetire: EXPIRE's promise is kept, neither sooner nor later.
func TestRetire(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	s := newMailbox(t)
	now := testTime()
	s.now = func() time.Time { return now }
	for _, text := range []string{"one", "two"} {
		appendMessage(t, s, "alice", text)
		now = now.Add(day)
	}
	// It arrived long ago and was put here today.
	if _, err := s.Append(context.Background(), "alice", strings.NewReader("three"), testTime().Add(-90*day)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after     time.Duration
		retention time.Duration
		removed   int
		left      []string
	}{
		{0, 30 * day, 0, []string{"one", "two", "three"}},
		{28 * day, 30 * day, 0, []string{"one", "two", "three"}},
		{time.Second, 30 * day, 1, []string{"two", "three"}},
		{0, -1, 0, []string{"two", "three"}},
		{0, 0, 2, nil},
	} {
		now = now.Add(step.after)
		if done, err := s.Retirable(context.Background(), "alice", step.retention); done.Messages != step.removed || err != nil {
			t.Errorf("%+v: would remove %+v, %v", step, done, err)
		}
		done, err := s.Retire(context.Background(), "alice", step.retention)
		if err != nil || done.Messages != step.removed || done.Kept != len(step.left) && step.retention >= 0 {
			t.Errorf("%+v: %+v, %v", step, done, err)
		}
		if got := texts(t, s); !slices.Equal(got, step.left) {
			t.Errorf("%+v: left %q", step, got)
		}
		clean(t, s, "alice")
	}
	s.mode = Shared
	if _, err := s.Retire(context.Background(), "alice", 0); !errors.Is(err, mailstore.ErrReadOnly) {
		t.Errorf("on Cyrus's spool: %v", err)
	}
}

// login opens and ends a session.
func login(s *Store, delay time.Duration) error {
	d, err := s.Open(context.Background(), "alice", mailstore.Holder{LoginDelay: delay})
	if err != nil {
		return err
	}
	return errors.Join(d.Update(context.Background(), mailstore.Changes{}), d.Close())
}

// TestLoginDelay: an account's own delay is counted as popminpoll is, and a
// clock that was wrong keeps nobody out.
func TestLoginDelay(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	now := testTime()
	s.now = func() time.Time { return now }
	for _, step := range []struct {
		after, delay time.Duration
		padding      int
		refused      bool
	}{
		{0, 0, 1, false},
		{0, time.Minute, 1, false}, // the first that was counted
		{59 * time.Second, time.Minute, 1, true},
		{0, 0, 1, false}, // no delay: not counted either
		{time.Second, time.Minute, 1, false},
		{-time.Hour, time.Minute, 1, false}, // the clock is set back
		{time.Second, time.Minute, 1, true}, // and counts again
		{-24 * time.Hour, time.Minute, 3, false},
		{time.Second, time.Minute, 3, true}, // nothing saved up yet
		{time.Hour, time.Minute, 3, false},  // three at once
		{0, time.Minute, 3, false},
		{0, time.Minute, 3, false},
		{0, time.Minute, 3, true},
		{time.Minute, time.Minute, 3, false},
		{0, time.Minute, 3, true},
	} {
		now = now.Add(step.after)
		s.conf.POP.PollPadding = step.padding
		if err := login(s, step.delay); errors.Is(err, mailstore.ErrLoginDelay) != step.refused || err != nil && !step.refused {
			t.Errorf("%+v: %v", step, err)
		}
	}
	clean(t, s, "alice")
}
