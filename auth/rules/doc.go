// Package rules decides from an Identity which account may be opened. It turns
// the proved principal into a local name by the sources that the configuration
// orders (an explicit map file, the account source, auth_to_local), compares it
// with the name that was asked for, and checks what the account's entry allows.
//
// Three kinds of Directory come from one type, Rules: without a Source the
// local name is the mailbox ("realm"); with Accounts a table in a file says
// more ("file"); package auth/ldapdir is the Source of the third ("ldap").
//
// Every decision can be asked for before a user meets it: Rules.Why gives each
// step. Nothing is allowed by default but one's own maildrop, by a principal of
// one component, of a realm on the list.
package rules
