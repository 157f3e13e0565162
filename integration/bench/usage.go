package bench

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A meter says what the processes of one server use.
type meter interface {
	// wrap changes a command line so that the server is measured.
	wrap(command []string) []string
	// cpu is the time used so far, also by processes that have ended.
	cpu() (time.Duration, error)
	// pids are the server's processes now.
	pids() ([]int, error)
	close() error
}

// newMeter makes a control group for a server, which counts nanoseconds; where
// none may be made, the process tree is read, which counts hundredths of a
// second.
func newMeter(name string, root func() int) meter {
	name = fmt.Sprintf("kpopd-bench-%d-%s", os.Getpid(), name)
	for _, group := range []controlGroup{
		{dir: filepath.Join("/sys/fs/cgroup/cpuacct", name), file: "cpuacct.usage"},
		{dir: filepath.Join("/sys/fs/cgroup", name), file: "cpu.stat"},
	} {
		if os.Mkdir(group.dir, 0o755) != nil { //nolint:gosec // G301: the kernel's mode
			continue
		}
		if _, err := group.cpu(); err == nil {
			return &group
		}
		_ = os.Remove(group.dir)
	}
	return &tree{root: root}
}

// A controlGroup is one of version 1 or 2.
type controlGroup struct{ dir, file string }

func (g *controlGroup) wrap(command []string) []string {
	return append([]string{"sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$@"`, g.dir}, command...)
}

func (g *controlGroup) cpu() (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, g.file))
	if err != nil {
		return 0, err
	}
	text, unit := strings.TrimSpace(string(b)), time.Nanosecond
	if g.file == "cpu.stat" {
		_, text, _ = strings.Cut(text, "usage_usec ")
		text, _, _ = strings.Cut(text, "\n")
		unit = time.Microsecond
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Duration(n) * unit, err
}

func (g *controlGroup) pids() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var all []int
	for _, field := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, err
		}
		all = append(all, pid)
	}
	return all, nil
}

// close removes the group; the last process of it may still be on its way out.
func (g *controlGroup) close() error {
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = os.Remove(g.dir); err == nil {
			return nil
		}
	}
	return err
}

func newTree(_ string, root func() int) meter { return &tree{root: root} }

// A tree is a process and its descendants.
type tree struct{ root func() int }

func (t *tree) wrap(command []string) []string { return command }
func (t *tree) close() error                   { return nil }

// A process is what /proc/PID/stat says of one.
type process struct {
	parent int
	used   time.Duration // its own, and that of children it has waited for
}

// tick is the unit of /proc/PID/stat on every Linux: USER_HZ.
const tick = time.Second / 100

func readProcess(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The name in parentheses may hold anything.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 15 {
		return process{}, errors.New("bench: /proc/PID/stat is cut short")
	}
	var p process
	if p.parent, err = strconv.Atoi(f[1]); err != nil {
		return p, err
	}
	for _, field := range f[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return p, err
		}
		p.used += time.Duration(n) * tick
	}
	return p, nil
}

// descendants maps the tree's processes to what they have used.
func (t *tree) descendants() (map[int]process, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil {
			all[pid] = p
		}
	}
	root := t.root()
	for pid := range all {
		if !below(all, pid, root) {
			delete(all, pid)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("bench: there is no process %d", root)
	}
	return all, nil
}

func below(all map[int]process, pid, root int) bool {
	for pid > 1 && pid != root {
		pid = all[pid].parent
	}
	return pid == root
}

func (t *tree) cpu() (sum time.Duration, err error) {
	all, err := t.descendants()
	for _, p := range all {
		sum += p.used
	}
	return sum, err
}

func (t *tree) pids() (pids []int, err error) {
	all, err := t.descendants()
	for pid := range all {
		pids = append(pids, pid)
	}
	return pids, err
}

// pss is the memory of processes in octets, each shared page divided among
// those who share it. A process that has ended meanwhile has none.
func pss(m meter) (int64, error) {
	pids, err := m.pids()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		n, err := pssOf(pid)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func pssOf(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "Pss:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, nil // a kernel thread, or one that is ending
}
