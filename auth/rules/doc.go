// Package rules decides from an Identity which account may be opened: it turns
// the proved principal into a local name, compares it with the name asked for,
// and finds the mailbox.
package rules
