package ofd

import (
	"context"
	"time"
)

// Pause waits as a lock's poll does; plain: as where no descriptor is to be had.
func Pause(ctx context.Context, d time.Duration, plain bool) error {
	var p pauser
	defer p.close()
	if plain {
		p.timer = time.NewTimer(time.Hour)
	}
	if err := p.wait(ctx, d/2); err != nil {
		return err
	}
	return p.wait(ctx, d-d/2)
}
