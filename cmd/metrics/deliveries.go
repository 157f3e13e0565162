package metrics

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// Deliveries counts what goes into next, which it is otherwise.
func (m *Metrics) Deliveries(next mailstore.Deliverer) mailstore.Deliverer {
	c := counted{next, m}
	if v, ok := next.(mailstore.Verifier); ok {
		return struct {
			counted
			mailstore.Verifier
		}{c, v}
	}
	return c
}

type counted struct {
	next mailstore.Deliverer
	m    *Metrics
}

// Deliver implements mailstore.Deliverer.
func (c counted) Deliver(ctx context.Context, mailbox string, message io.Reader, from string) error {
	began := time.Now()
	err := c.next.Deliver(ctx, mailbox, message, from)
	c.m.deliveries.WithLabelValues(outcome(err)).Observe(time.Since(began).Seconds())
	return err
}

// outcome says what became of a delivery, in few words.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, mailstore.ErrUnknown):
		return "no mailbox"
	case errors.Is(err, mailstore.ErrOverQuota):
		return "over quota"
	case errors.Is(err, mailstore.ErrTemporary):
		return "temporary"
	}
	return "error"
}
