// Package logs makes kpopd's log: text, JSON or journald, beside it an audit
// stream, and the list of those whose dialogue is traced.
package logs
