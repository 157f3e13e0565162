package kpop

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/utf7"
)

// pop4 is TRANSACTION with the commands of POP4 (docs/pop4.md), on a listener
// that has them and over a store that has folders. What POP3 has is
// transaction's own; the maildrop of both is the selected folder.
type pop4 struct {
	*transaction
	folders mailstore.Folders
}

var pop4Table = table[*pop4]{
	"LFLD": {run: (*pop4).lfld},
	"SFLD": {whole: true, utf8: true, shown: 1, run: (*pop4).sfld},
	"CFLD": {whole: true, utf8: true, shown: 1, run: (*pop4).cfld},
	"DFLD": {whole: true, utf8: true, shown: 1, run: (*pop4).dfld},
	"MOVF": {whole: true, utf8: true, shown: 2, run: (*pop4).movf},
	"RENF": {whole: true, utf8: true, shown: 2, run: (*pop4).renf},
	"MOVE": {whole: true, utf8: true, shown: 2, run: (*pop4).move},
	"COPY": {whole: true, utf8: true, shown: 2, run: (*pop4).copyCommand},
	"STOR": {whole: true, utf8: true, shown: 1, run: (*pop4).stor},
	"XFLG": {whole: true, shown: 2, run: (*pop4).xflg},
	"XPRT": {least: 1, most: 2, shown: 2, run: (*pop4).xprt},
}

// capaPOP4 names what the state adds; the proposal has no CAPA.
const capaPOP4 = "X-POP4 0 LFLD SFLD CFLD DFLD MOVF RENF MOVE COPY STOR XFLG XPRT\r\n"

var (
	refNoFolder     = &refusal{text: "No such folder"}
	refFolderExists = &refusal{text: "Folder exists already"}
	refFolderName   = &refusal{text: "Folder name is not allowed"}
	refFolderInUse  = &refusal{text: "Folder is not empty"}
	refInbox        = &refusal{text: "INBOX can be neither removed nor renamed"}
	refMarks        = &refusal{text: "Messages are marked as deleted, send RSET or QUIT first"}
	refTooLarge     = &refusal{text: "Message is too large"}
	refMessage      = &refusal{text: "Message cannot be stored"}
	refQuota        = &refusal{text: "Quota is exceeded"}
	refFlag         = &refusal{text: "Unknown flag"}
	refNoPart       = &refusal{text: "No such part"}
	refParts        = &refusal{text: "Message has too many parts"}
	refCyrus        = &refusal{code: "SYS/PERM", text: "Folders and messages are changed through Cyrus here, use IMAP"}
)

// begin is the state after a login.
func (t *transaction) begin() state {
	folders, ok := t.drop.(mailstore.Folders)
	if !ok || !t.port.POP4 {
		return t
	}
	t.pop4 = true
	return &pop4{transaction: t, folders: folders}
}

// do leaves POP3's commands to transaction, and stays in this state after them.
func (p *pop4) do(ctx context.Context, cmd *command) (state, error) {
	if _, ours := pop4Table[string(cmd.verb)]; ours {
		return dispatch(ctx, pop4Table, p, cmd)
	}
	next, err := p.transaction.do(ctx, cmd)
	if next == state(p.transaction) {
		next = p
	}
	return next, err
}

func (p *pop4) shown(verb []byte) (int, bool) {
	if n, known := pop4Table.shown(verb); known {
		return n, true
	}
	return p.transaction.shown(verb)
}

// lfld lists the folders: messages, octets as stored, name.
func (p *pop4) lfld(ctx context.Context, _ *command) (state, error) {
	list, err := p.folders.Folders(ctx)
	if err != nil {
		return p, p.folderRefusal("LFLD", err)
	}
	p.ok("Folder list follows")
	for _, f := range list {
		p.putNumber(int64(f.Messages))
		p.putString(" ")
		p.putNumber(f.Octets)
		p.putString(" ")
		p.putString(p.shownName(f.Name))
		p.putString("\r\n")
	}
	p.putString(".\r\n")
	return p, nil
}

// sfld selects a folder. The folder that is left is updated as by QUIT, but
// nothing is removed: marks would be lost unseen, so there must be none.
func (p *pop4) sfld(ctx context.Context, cmd *command) (state, error) {
	names, err := p.names(cmd, 1)
	if err != nil {
		return p, err
	}
	if p.deleted.count > 0 {
		return p, refMarks
	}
	drop, err := p.folders.Select(ctx, names[0])
	if err != nil {
		return p, p.folderRefusal("SFLD", err)
	}
	left := p.drop
	if err := left.Update(context.WithoutCancel(ctx), mailstore.Changes{Retrieved: p.retrieved.numbers()}); err != nil {
		p.warnFolder("update of the folder left failed", err)
	}
	if err := left.Close(); err != nil {
		p.warnFolder("folder left not closed", err)
	}
	p.enterFolder(drop)
	p.ok("Folder is selected")
	return p, nil
}

// enterFolder makes drop the session's maildrop.
func (p *pop4) enterFolder(drop mailstore.Folders) {
	t := p.transaction
	p.folders, t.drop = drop, drop
	t.appender, _ = drop.(mailstore.Appender)
	t.rester, _ = drop.(mailstore.Rester)
	t.deleted, t.deletedOctets, t.retrieved, t.legacy = marks{}, 0, marks{}, legacy{}
}

func (p *pop4) cfld(ctx context.Context, cmd *command) (state, error) {
	names, err := p.names(cmd, 1)
	if err != nil {
		return p, err
	}
	if err := p.folders.CreateFolder(context.WithoutCancel(ctx), names[0]); err != nil {
		return p, p.folderRefusal("CFLD", err)
	}
	p.ok("Folder was made")
	return p, nil
}

func (p *pop4) dfld(ctx context.Context, cmd *command) (state, error) {
	names, err := p.names(cmd, 1)
	if err != nil {
		return p, err
	}
	if isInbox(names[0]) {
		return p, refInbox
	}
	if err := p.folders.DeleteFolder(context.WithoutCancel(ctx), names[0]); err != nil {
		return p, p.folderRefusal("DFLD", err)
	}
	p.ok("Folder was removed")
	return p, nil
}

// movf moves a folder into another one; into INBOX means to the top.
func (p *pop4) movf(ctx context.Context, cmd *command) (state, error) {
	names, err := p.names(cmd, 2)
	if err != nil {
		return p, err
	}
	to := names[0][strings.LastIndexByte(names[0], '/')+1:]
	if !isInbox(names[1]) {
		to = names[1] + "/" + to
	}
	return p.rename(ctx, "MOVF", names[0], to, "Folder was moved")
}

// renf gives a folder another name in its place.
func (p *pop4) renf(ctx context.Context, cmd *command) (state, error) {
	names, err := p.names(cmd, 2)
	if err != nil {
		return p, err
	}
	if strings.Contains(names[1], "/") {
		return p, refFolderName
	}
	above := names[0][:strings.LastIndexByte(names[0], '/')+1]
	return p.rename(ctx, "RENF", names[0], above+names[1], "Folder was renamed")
}

func (p *pop4) rename(ctx context.Context, verb, from, to, done string) (state, error) {
	if isInbox(from) {
		return p, refInbox
	}
	if err := p.folders.RenameFolder(context.WithoutCancel(ctx), from, to); err != nil {
		return p, p.folderRefusal(verb, err)
	}
	p.ok(done)
	return p, nil
}

func isInbox(name string) bool { return strings.EqualFold(name, mailstore.Inbox) }

// copyCommand copies messages: COPY 1,3-5 folder.
func (p *pop4) copyCommand(ctx context.Context, cmd *command) (state, error) {
	if _, err := p.copyTo(ctx, "COPY", cmd); err != nil {
		return p, err
	}
	p.ok("Copied")
	return p, nil
}

// move copies messages and marks them: like all that is marked they go at QUIT,
// and a lost connection leaves both.
func (p *pop4) move(ctx context.Context, cmd *command) (state, error) {
	if r, ok := p.drop.(mailstore.Restricted); ok {
		if err := r.ReadOnly(); err != nil {
			p.warnFolder("MOVE refused", err)
			return p, refReadOnly
		}
	}
	ns, err := p.copyTo(ctx, "MOVE", cmd)
	if err != nil {
		return p, err
	}
	for _, n := range ns {
		size, err := p.size(n)
		if err != nil {
			return p, p.refuse("MOVE", n, err)
		}
		p.deleted.set(n)
		p.deletedOctets += size
	}
	p.ok("Copied and marked as deleted here")
	return p, nil
}

func (p *pop4) copyTo(ctx context.Context, verb string, cmd *command) ([]mailstore.Number, error) {
	set, rest := strings.TrimLeft(string(cmd.rest), " \t"), ""
	if end := strings.IndexAny(set, " \t"); end >= 0 {
		set, rest = set[:end], set[end:]
	}
	names, err := p.parseNames(rest, 1)
	if err != nil {
		return nil, err
	}
	ns, err := p.numbers(set)
	if err != nil {
		return nil, err
	}
	if err := p.folders.Copy(context.WithoutCancel(ctx), ns, names[0]); err != nil {
		return nil, p.folderRefusal(verb, err)
	}
	return ns, nil
}

// numbers reads a set such as 1,3-5: each in the folder, not marked, and only
// once.
func (p *pop4) numbers(set string) ([]mailstore.Number, error) {
	var ns []mailstore.Number
	var seen marks
	for part := range strings.SplitSeq(set, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		if first == "" || last == "" {
			return nil, refNoNumber
		}
		from, err := p.number([]byte(first))
		if err != nil {
			return nil, err
		}
		to, err := p.number([]byte(last))
		if err != nil {
			return nil, err
		}
		if to < from {
			return nil, refNoNumber
		}
		for n := from; n <= to; n++ {
			if p.deleted.has(n) {
				return nil, refMarked
			}
			if !seen.has(n) {
				seen.set(n)
				ns = append(ns, n)
			}
		}
	}
	if len(ns) == 0 {
		return nil, refNoNumber
	}
	return ns, nil
}

// xflg tells or changes flags: XFLG 1, XFLG 1 +\Flagged -\Seen. What is deleted
// is DELE's to say.
func (p *pop4) xflg(ctx context.Context, cmd *command) (state, error) {
	fields := strings.Fields(string(cmd.rest))
	if len(fields) == 0 {
		return p, refSyntax
	}
	n, err := p.number([]byte(fields[0]))
	if err != nil {
		return p, err
	}
	set, clear, err := flagChanges(fields[1:])
	if err != nil {
		return p, err
	}
	var flags mailstore.Flags
	if len(fields) == 1 {
		flags, err = p.folders.Flags(ctx, n)
	} else {
		flags, err = p.folders.SetFlags(context.WithoutCancel(ctx), n, set, clear)
	}
	if err != nil {
		return p, p.folderRefusal("XFLG", err)
	}
	p.room(maxTextRoom)
	mark := len(p.out)
	p.out = strconv.AppendInt(append(p.out, "+OK "...), int64(n), 10)
	if flags != 0 {
		p.out = append(append(p.out, ' '), flags.String()...)
	}
	p.endReply(len(p.out) - mark)
	return p, nil
}

func flagChanges(fields []string) (set, clear mailstore.Flags, err error) {
	for _, field := range fields {
		flag, err := mailstore.ParseFlag(field[1:])
		if err != nil || flag == mailstore.FlagDeleted {
			return 0, 0, refFlag
		}
		switch field[0] {
		case '+':
			set, clear = set|flag, clear&^flag
		case '-':
			set, clear = set&^flag, clear|flag
		default:
			return 0, 0, refSyntax
		}
	}
	return set, clear, nil
}

// names reads the folder names of a command.
func (p *pop4) names(cmd *command, want int) ([]string, error) {
	return p.parseNames(string(cmd.rest), want)
}

// parseNames reads names with blanks between them; one that has blanks is
// quoted. A client that has not sent UTF8 writes names in modified UTF-7.
func (p *pop4) parseNames(rest string, want int) ([]string, error) {
	var names []string
	for rest = strings.Trim(rest, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		var name string
		var ok bool
		if rest[0] == '"' {
			name, rest, ok = quoted(rest)
		} else {
			end := strings.IndexAny(rest, " \t")
			if end < 0 {
				end = len(rest)
			}
			name, rest, ok = rest[:end], rest[end:], true
		}
		if !ok || len(names) == want {
			return nil, refSyntax
		}
		if !p.utf8 {
			decoded, err := utf7.Decode(name)
			if err != nil {
				return nil, refFolderName
			}
			name = decoded
		}
		names = append(names, name)
	}
	if len(names) != want {
		return nil, refSyntax
	}
	return names, nil
}

// quoted reads a quoted string from the beginning of s; a backslash stands
// before a quotation mark and before a backslash (RFC 9051 section 9).
func quoted(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}

// shownName writes a name as the client can read and send it.
func (p *pop4) shownName(name string) string {
	if !p.utf8 || !utf8.ValidString(name) {
		name = utf7.Encode(name)
	}
	if name != "" && !strings.ContainsAny(name, " \t\"\\") {
		return name
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// folderRefusal is the map from what a folder's command ended in to a reply.
func (p *pop4) folderRefusal(verb string, err error) error {
	for _, known := range []struct {
		is    error
		reply *refusal
	}{
		{mailstore.ErrNoFolder, refNoFolder},
		{mailstore.ErrUnknown, refNoFolder},
		{mailstore.ErrFolderExists, refFolderExists},
		{mailstore.ErrFolderName, refFolderName},
		{mailstore.ErrFolderInUse, refFolderInUse},
		{mailstore.ErrElsewhere, refCyrus},
		{mailstore.ErrOverQuota, refQuota},
		{mailstore.ErrMessage, refMessage},
		{mailstore.ErrInUse, refInUse},
	} {
		if errors.Is(err, known.is) {
			return known.reply
		}
	}
	p.warnFolder(verb+" failed", err)
	return storeRefusal(err)
}

func (p *pop4) warnFolder(text string, err error) {
	p.logAttrs(slog.LevelWarn, text, slog.String("mailbox", p.account.Mailbox), slog.Any("err", err))
}
