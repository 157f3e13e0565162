package lmtp

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/emersion/go-smtp"

	"github.com/kpopd/kpopd/mailstore"
)

// An AnswerError is what another LMTP server said. It passes through as it is.
type AnswerError struct {
	Code     int    // RFC 5321 section 4.2
	Enhanced [3]int // RFC 3463; zero: none
	Text     string
}

func (e *AnswerError) Error() string { return fmt.Sprintf("answered %d %s", e.Code, e.Text) }

// Unwrap gives the answer its meaning here.
func (e *AnswerError) Unwrap() error {
	switch {
	case e.Enhanced == [3]int{5, 1, 1} || e.Code == 550 && e.Enhanced == [3]int{}:
		return mailstore.ErrUnknown
	case e.Enhanced[1] == 2 && e.Enhanced[2] == 2 || e.Code == 552 || e.Code == 452:
		return mailstore.ErrOverQuota
	case e.Code >= 500:
		return mailstore.ErrMessage
	}
	return mailstore.ErrTemporary
}

// answers are the replies to what a store can say; the first that matches
// counts. The texts say nothing of files: those go to the log.
func answers(overQuotaRejects bool) []struct {
	is error
	smtp.SMTPError
} {
	quota := smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "Over quota"}
	if overQuotaRejects {
		quota.Code, quota.EnhancedCode = 552, smtp.EnhancedCode{5, 2, 2}
	}
	return []struct {
		is error
		smtp.SMTPError
	}{
		{mailstore.ErrUnknown, smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "No such user here"}},
		{mailstore.ErrOverQuota, quota},
		{mailstore.ErrMessage, smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "Message cannot be stored"}},
		{mailstore.ErrDamaged, smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "Mailbox is damaged"}},
		{mailstore.ErrReadOnly, smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "Mailbox takes no mail now"}},
		{syscall.ENOSPC, smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "Insufficient system storage"}},
		{syscall.EDQUOT, smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "Insufficient system storage"}},
	}
}

// errFault is the answer to a message that a slip of ours kept from its recipient.
var errFault = &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 0, 0}, Message: "Internal server error"}

// answer is the reply to err; nil for success.
func answer(err error, overQuotaRejects bool) error {
	if err == nil {
		return nil
	}
	if said := (*AnswerError)(nil); errors.As(err, &said) {
		return &smtp.SMTPError{Code: said.Code, EnhancedCode: said.Enhanced, Message: said.Text}
	}
	for _, a := range answers(overQuotaRejects) {
		if errors.Is(err, a.is) {
			return &a.SMTPError
		}
	}
	return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "Temporary failure, try again later"}
}
