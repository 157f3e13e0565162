package main

import (
	"context"
	"fmt"

	"github.com/kpopd/kpopd/mailstore/lmtp"
)

// startLMTP takes new mail until stop is called. Without lmtp.listen it does
// nothing.
func (d *daemon) startLMTP(failed chan<- error) (stop func(context.Context) error, err error) {
	c := d.Config.LMTP
	if c.Listen == "" {
		return func(context.Context) error { return nil }, nil
	}
	l, err := lmtp.Listen(c.Listen, c.Mode())
	if err != nil {
		return nil, fmt.Errorf("lmtp.listen: %w; is another server running, or does the directory not exist?", err)
	}
	d.Log.Info("listening", "port", "lmtp", "address", l.Addr(), "protocol", "lmtp")
	server := d.LMTP()
	server.Store = d.metrics.Deliveries(server.Store)
	server.Recipient = func(ctx context.Context, address string) (string, error) {
		return d.current.Load().Recipient(ctx, address) // of the last reload
	}
	go func() { failed <- server.Serve(l) }()
	return server.Shutdown, nil
}
