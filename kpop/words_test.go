package kpop_test

import (
	"errors"
	"fmt"
	"net"

	"github.com/kpopd/kpopd/mailstore"
)

type (
	netAddr = net.Addr
	changes = mailstore.Changes
)

var (
	errDamaged = fmt.Errorf("test: %w", mailstore.ErrDamaged)
	errSoon    = fmt.Errorf("test: %w", mailstore.ErrLoginDelay)
	errDisk    = errors.New("test: no space left on /var/spool")
)
