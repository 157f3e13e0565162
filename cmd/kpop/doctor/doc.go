// Package doctor examines a mail server with kpopd, or a machine whose people
// fetch mail from one, and says of each thing whether it is ok, doubtful or
// wrong, and what to do about it.
//
// It changes nothing. It asks the network what a client would ask, and each
// question has a deadline.
package doctor
