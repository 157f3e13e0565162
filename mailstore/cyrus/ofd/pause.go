package ofd

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A pauser waits for some milliseconds at a time, and no longer: a timer of package time
// comes as much later as the process's timer slack allows, which is several times what
// is waited for (kpopd's slack.go). A timerfd(2) comes in time. Its zero value is ready.
type pauser struct {
	clock *os.File
	timer *time.Timer // instead, where there is no descriptor to be had
}

// wait returns when d is over, or with ctx's error.
func (p *pauser) wait(ctx context.Context, d time.Duration) error {
	if p.clock == nil && p.timer == nil {
		p.start()
	}
	if p.clock == nil {
		p.timer.Reset(d)
		select {
		case <-ctx.Done():
		case <-p.timer.C:
		}
		return ctx.Err()
	}
	stop := context.AfterFunc(ctx, func() { _ = p.clock.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.set(d); err != nil {
		return err
	}
	var expirations [8]byte
	if _, err := p.clock.Read(expirations[:]); err != nil && ctx.Err() == nil {
		return err
	}
	return ctx.Err()
}

func (p *pauser) start() {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		p.timer = time.NewTimer(time.Hour)
		return
	}
	p.clock = os.NewFile(uintptr(fd), "timerfd")
}

func (p *pauser) set(d time.Duration) error {
	conn, err := p.clock.SyscallConn()
	if err != nil {
		return err
	}
	once := &unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	var setErr error
	err = conn.Control(func(fd uintptr) { setErr = unix.TimerfdSettime(int(fd), 0, once, nil) })
	if err != nil {
		return err
	}
	return setErr
}

func (p *pauser) close() {
	if p.clock != nil {
		_ = p.clock.Close()
	}
	if p.timer != nil {
		p.timer.Stop()
	}
}
