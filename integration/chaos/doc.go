// Package chaos breaks what kpopd stands on, one thing at a time, under a running
// daemon, and holds three promises against each fault: the client is told the
// truth, the log says why, and the maildrop is whole afterwards. `make test` plays
// each row once, `make chaos` many times, ending in the table of
// docs/reliability.md.
package chaos
