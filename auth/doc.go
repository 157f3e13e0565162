// Package auth holds the words of logging in: what a mechanism proves (an
// Identity), how it is proved (a Mechanism's Exchange) and what the proof is
// worth (a Directory's Account).
//
// Proof and permission are different calls. A mechanism says who someone is
// and carries no permission; a Directory says whose maildrop that is and
// whether it may be opened. Neither knows the other, nor a socket, nor a
// maildrop; technologies (Kerberos, LDAP, passwords) live in subpackages.
package auth
