package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Raise brings loopback up in the calling thread's network.
func Raise() error {
	return withInterface("lo", func(socket int, lo *unix.Ifreq) error {
		lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo)
	})
}

func withInterface(name string, do func(socket int, request *unix.Ifreq) error) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq(name)
	if err == nil {
		err = do(socket, request)
	}
	if err != nil {
		return fmt.Errorf("network: %s: %w", name, err)
	}
	return nil
}

// newTunnel makes a point-to-point interface in the calling thread's network.
// What the kernel sends there is read from the file, packet by packet, and what is
// written to the file the kernel receives.
func newTunnel(name string, own, peer netip.Addr) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("network: /dev/net/tun: %w", err)
	}
	if err := raiseTunnel(fd, name, own, peer); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil // only now can it be polled
}

func raiseTunnel(fd int, name string, own, peer netip.Addr) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("network: %s: %w", name, err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("network: %s: %w", name, err)
	}
	// Packets to and from 127.0.0.1 are let through.
	for setting, value := range map[string]string{"route_localnet": "1", "rp_filter": "0"} {
		path := filepath.Join("/proc/sys/net/ipv4/conf", name, setting)
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			return fmt.Errorf("network: %w", err)
		}
	}
	for _, step := range []struct {
		request uint
		set     func(*unix.Ifreq) error
	}{
		{unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(own.AsSlice()) }},
		{unix.SIOCSIFDSTADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(peer.AsSlice()) }},
		{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		err := withInterface(name, func(socket int, r *unix.Ifreq) error {
			return errors.Join(step.set(r), unix.IoctlIfreq(socket, step.request, r))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
