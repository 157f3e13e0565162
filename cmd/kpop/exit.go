package main

import "errors"

// An exitError ends the program with a status of its own; its text may be empty
// when everything was said.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// status is what the program exits with after err.
func status(err error) int {
	if e := (*exitError)(nil); errors.As(err, &e) {
		return e.status
	}
	return exitStatus(err)
}
