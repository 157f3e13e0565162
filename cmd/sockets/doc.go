// Package sockets opens the daemon's listeners: those that systemd hands over,
// else its own, and behind a load balancer those that read the PROXY protocol.
package sockets
