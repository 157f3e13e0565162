// Package confine takes from the process what it does not need once it serves:
// root, and all files but its own.
package confine
