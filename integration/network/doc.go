// Package network makes networks of a test's own: loopback in a namespace that
// nobody else is in, and a path to a second one that loses, doubles and reorders
// packets. It stands in for netem, which few kernels are built with. It wants
// CAP_NET_ADMIN in its namespace, and /dev/net/tun.
package network
