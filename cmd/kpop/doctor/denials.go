package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// denials looks for what systemd, SELinux or AppArmor forbade.
func (s *Site) denials(ctx context.Context, r *Report) {
	out := r.section("denials")
	s.systemd(ctx, out)
	enforcing := strings.TrimSpace(s.read("sys/fs/selinux/enforce")) == "1"
	confined := strings.Contains(s.read("sys/kernel/security/apparmor/profiles"), "kpopd")
	switch {
	case enforcing:
		out.ok("SELinux is enforcing")
	case confined:
		out.ok("AppArmor confines kpopd")
	default:
		out.ok("neither SELinux nor AppArmor confines kpopd")
	}
	found := s.denied(ctx)
	for _, line := range found[:min(len(found), 3)] {
		remedy := "allow it in /etc/apparmor.d/local/usr.sbin.kpopd and run apparmor_parser -r"
		if strings.Contains(line, "avc:") {
			remedy = "restorecon -Rv what it names, or ausearch -m avc -c kpopd | audit2allow -M kpopd"
		}
		out.wrong(remedy, "kpopd was denied something: %.300s", line)
	}
	if len(found) == 0 {
		out.ok("no denial of kpopd is in the kernel's log")
	}
}

// systemd asks for the unit's state, where there is systemd.
func (s *Site) systemd(ctx context.Context, out section) {
	text, err := s.run(ctx, "systemctl", "show", "kpopd.service", "--property=LoadState,ActiveState,Result,NRestarts")
	if err != nil || !strings.Contains(text, "LoadState=loaded") {
		return
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	switch {
	case values["ActiveState"] == "failed":
		out.wrong("journalctl -u kpopd -n 50; then systemctl reset-failed kpopd", "systemd says kpopd failed: %s", values["Result"])
	case values["NRestarts"] != "" && values["NRestarts"] != "0":
		out.warn("journalctl -u kpopd -p err", "systemd has restarted kpopd %s times", values["NRestarts"])
	default:
		out.ok("systemd says kpopd is %s", values["ActiveState"])
	}
}

// denied gives the newest lines in which the kernel denied kpopd something.
func (s *Site) denied(ctx context.Context) []string {
	journal, err := s.run(ctx, "journalctl", "-k", "-b", "-q", "-o", "cat", "-n", "2000", "--no-pager")
	if err != nil {
		journal = ""
	}
	var found []string
	for line := range strings.Lines(journal + s.tail("var/log/audit/audit.log") + s.tail("var/log/kern.log")) {
		if strings.Contains(line, "kpopd") && (strings.Contains(line, `apparmor="DENIED"`) || strings.Contains(line, "avc:  denied")) {
			found = append([]string{strings.TrimSpace(line)}, found...)
		}
	}
	return found
}

func (s *Site) path(name string) string {
	if s.Machine.Root == "" {
		return "/" + name
	}
	return filepath.Join(s.Machine.Root, name)
}

func (s *Site) read(name string) string {
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		return ""
	}
	return string(b)
}

// tail gives the end of a log.
func (s *Site) tail(name string) string {
	f, err := os.Open(s.path(name))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	const most = 1 << 20
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	b := make([]byte, min(info.Size(), most))
	n, _ := f.ReadAt(b, max(0, info.Size()-most))
	return string(b[:n])
}

func (s *Site) run(ctx context.Context, name string, args ...string) (string, error) {
	if s.Machine.Run != nil {
		return s.Machine.Run(ctx, name, args...)
	}
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	b, err := exec.CommandContext(ctx, name, args...).Output() //nolint:gosec // G204: two programs, named here
	return string(b), err
}
