package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// Ask sends r to the daemon whose socket is at path and decodes its reply into
// result, which may be nil. Without a deadline on ctx it waits a minute.
func Ask(ctx context.Context, path string, r Request, result any) error {
	short, done, err := shorten(path)
	if err != nil {
		return err
	}
	defer done()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", short)
	if err != nil {
		return fmt.Errorf("control: %s: %w%s", path, reason(err), hint(err))
	}
	defer c.Close() //nolint:errcheck // nothing is lost
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(replyTime)
	}
	_ = c.SetDeadline(deadline)
	sent := json.NewEncoder(c).Encode(r) // who is refused early is told so nevertheless
	var answer reply
	if err := json.NewDecoder(c).Decode(&answer); err != nil {
		return fmt.Errorf("control: no reply: %w", errors.Join(sent, err))
	}
	if answer.Error != "" {
		return fmt.Errorf("control: %w: %s", ErrRefused, answer.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// reason leaves out the name of the socket, which may be the short one.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func hint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "; is kpopd running, and is this its configuration?"
	case errors.Is(err, fs.ErrPermission):
		return "; ask as root or as kpopd's user"
	}
	return ""
}
