// Package bench measures kpopd beside Cyrus and Dovecot: what a session, a
// message or an idle client costs the server, in one run on one machine.
//
// A World holds the servers with the same messages on all of them. A Scenario
// is one kind of work. Run plays every scenario on every server in turn, A B C
// A B C, for some rounds, and makes a Report of medians, spreads and ratios.
// Only ratios mean anything elsewhere: they come from the same machine in the
// same minutes.
//
// The cost is the server's CPU time, user and system, of all its processes and
// of those that have ended. The load client is this program; its own time
// counts nowhere. Tickets are fetched and AP-REQs are made before the clock
// starts.
//
// # How the peers are set
//
// As a busy site would: login and mail processes are kept for the next session
// and are as many as are wanted; no delays; Cyrus's lock and proc files lie on
// a tmpfs, as Debian's are; Dovecot's Maildir names carry both sizes. The files
// are in cyrus.go and dovecot.go. Every server has been
// visited once before anything is measured, so that the caches that it keeps
// beside messages exist.
package bench
