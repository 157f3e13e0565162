package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/kpopd/kpopd/cmd/config"
)

// TestPackageLists: what the Debian package's lists name is there; what is made
// by its build lies in made/.
func TestPackageLists(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"install", "docs", "examples"} {
		b, err := os.ReadFile(filepath.Join("debian/package", list))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if strings.HasPrefix(name, "made/") {
				continue
			}
			if found, err := filepath.Glob(filepath.Join("..", name)); err != nil || len(found) == 0 {
				t.Errorf("debian/package/%s: no %s", list, name)
			}
		}
	}
}

// TestContainersConfiguration: kpopd takes the configuration that it has in
// docker-compose.yml, once what setup makes is there.
func TestContainersConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"server.pem", "server.key", "keytab", "ldap.pw", "krb5.conf", "ca.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	imapd, err := filepath.Abs("docker/kpopd/imapd.conf")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("docker/kpopd/kpopd.toml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("/srv/kpopd/", dir+"/", "/srv/public/", dir+"/", "/etc/kpopd/imapd.conf", imapd).Replace(string(b))
	path := filepath.Join(dir, "kpopd.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Error(err)
	}
}

// TestCompose: contexts, mounted files and named volumes of docker-compose.yml are
// there.
func TestCompose(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Build   struct{ Context string }
			Volumes []string
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Services) < 6 {
		t.Errorf("%d services", len(file.Services))
	}
	for name, s := range file.Services {
		if _, err := os.Stat(filepath.Join("..", s.Build.Context, "Dockerfile")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			_, isVolume := file.Volumes[source]
			if _, err := os.Stat(filepath.Join("..", source)); err != nil && !isVolume {
				t.Errorf("%s: no volume or file %s", name, source)
			}
		}
	}
}

// TestStartIsLet: what comes with kpopd to confine it lets it start itself once more,
// and read the id of the boot, by which it knows a replay journal that may lack
// records.
func TestStartIsLet(t *testing.T) {
	t.Parallel()
	for file, lines := range map[string][]string{
		"apparmor/usr.sbin.kpopd": {"/usr/sbin/kpopd mrix,", "@{PROC}/sys/kernel/random/boot_id r,"},
		"systemd/kpopd.service":   {"ExecStart=/usr/sbin/kpopd serve", "ExecPaths=/usr/sbin/kpopd /usr/bin/kpop /usr/lib /lib /lib64"},
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !strings.Contains(string(b), line+"\n") {
				t.Errorf("%s lacks %q", file, line)
			}
		}
		if strings.Contains(string(b), "\nProcSubset=pid") {
			t.Errorf("%s hides /proc/sys", file)
		}
	}
}
