package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a conversation: a request is short, a reply may list every session.
const (
	maxRequest  = 4 << 10
	requestTime = 10 * time.Second
	replyTime   = time.Minute
)

// A Handler answers one kind of Request. Its error's text goes to the operator.
type Handler func(context.Context, Request) (any, error)

// A Server answers requests. Log is required.
type Server struct {
	Handlers map[string]Handler // by command
	Log      *slog.Logger

	// Panicked is told of each fault that was caught, with the stack; nil: nobody.
	Panicked func(value any, stack []byte)

	// Allowed says which users are heard beside root; nil: the process's own.
	Allowed func(uid uint32) bool
}

// Listen makes the socket, mode 0600, in the place of one that nobody listens on
// any more.
func Listen(path string) (*net.UnixListener, error) {
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	if c, err := net.Dial("unix", short); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("control: another kpopd listens on %s", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		_ = os.Remove(path)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control: %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // its name is known here only as short
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Serve answers until ctx ends. It closes l.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.AcceptUnix()
		switch {
		case err == nil:
			open.Go(func() { s.converse(ctx, c) })
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			s.Log.Warn("control: accept failed", "error", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func (s *Server) converse(ctx context.Context, c *net.UnixConn) {
	defer c.Close() //nolint:errcheck // nothing is lost
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = c.SetReadDeadline(time.Now().Add(requestTime))
	result, err := s.answer(ctx, c)
	out := reply{}
	if err == nil {
		out.Result, err = json.Marshal(result)
	}
	if err != nil {
		out = reply{Error: err.Error()}
	}
	_ = c.SetWriteDeadline(time.Now().Add(replyTime))
	if err := json.NewEncoder(c).Encode(out); err != nil {
		s.Log.Warn("control: reply not taken", "error", err)
	}
}

func (s *Server) answer(ctx context.Context, c *net.UnixConn) (result any, err error) {
	uid, err := peer(c)
	if err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(io.LimitReader(c, maxRequest)).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("no request: %w", err)
	}
	if !s.allowed(uid) {
		s.Log.Warn("control: refused", "audit", true, "uid", uid)
		return nil, fmt.Errorf("user %d is neither root nor kpopd's own", uid)
	}
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("malformed request: %w", err)
	}
	h, ok := s.Handlers[r.Command]
	if !ok {
		return nil, fmt.Errorf("unknown command %q", r.Command)
	}
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			s.Log.Error("panic", "in", "control: "+r.Command, "value", fmt.Sprint(p), "stack", string(stack))
			if s.Panicked != nil {
				s.Panicked(p, stack)
			}
			result, err = nil, errors.New("fault in kpopd; see its log")
		}
	}()
	return h(ctx, r)
}

func (s *Server) allowed(uid uint32) bool {
	if s.Allowed != nil {
		return s.Allowed(uid)
	}
	return uid == 0 || int(uid) == os.Geteuid()
}

// peer asks the kernel who is at the other end.
func peer(c *net.UnixConn) (uint32, error) {
	sys, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var inner error
	if err := sys.Control(func(fd uintptr) {
		cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if inner != nil {
		return 0, fmt.Errorf("who asks is not known: %w", inner)
	}
	return cred.Uid, nil
}
